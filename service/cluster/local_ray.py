"""Drivers as processes of this machine, each in a session of its own, so that a Ctrl-C at the terminal passes them by."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from service.background import outlives
from service.cluster.base import Cluster, Handle, Job, Request
from service.cluster.driver_jobs import argv
from service.errors import InfrastructureFailure
from service.machine import this_machine
from service.ray_folder import default_ray_folder, short_ray_folder
from service.records.user_package import is_package
from service.settings import process_environment
from service.specs.parts import Resources

OUTPUT_BYTES = 64 * 1024
"""Of a driver's output that much of the end is shown (assumed: a few screens)."""


@dataclass(frozen=True)
class ProcessRequest(Request):
    """A process of this machine."""

    job: Job
    argv: tuple[str, ...]
    folder: Path
    """Where it stands."""
    environment: Mapping[str, str] = field(repr=False)
    """All of it; never shown, for it may hold credentials."""

    def document(self) -> dict[str, Any]:
        return {"command": list(self.argv)}


class LocalRay(Cluster):
    """Ray on this machine, started by the driver; or the existing cluster that `ray_address` names."""

    def __init__(self, log_folder: Path, ray_address: str | None = None, ray_tmpdir: str | None = None) -> None:
        self._log_folder = log_folder
        self._joins = ray_address is not None
        self.description = f"the Ray cluster at {ray_address}" if ray_address else _ray_here(ray_tmpdir)

    def request(self, job: Job) -> ProcessRequest:
        # A package in the store is no folder to stand in.
        folder = Path.cwd() if is_package(str(job.folder)) else job.folder
        command = argv(job, sys.executable, job.store_url, str(job.folder))
        return ProcessRequest(job, command, folder, process_environment(**job.environment))

    def start(self, request: Request) -> "DriverProcess":
        """Start the process with its output in a file of the log folder."""
        if not isinstance(request, ProcessRequest):
            raise TypeError(f"{type(request).__name__} is of another cluster")
        try:
            self._log_folder.mkdir(parents=True, exist_ok=True)
            descriptor, path = tempfile.mkstemp(prefix=f"{request.job.run_id}-", suffix=".log", dir=self._log_folder)
            with open(descriptor, "wb") as log:
                process = subprocess.Popen(
                    request.argv,
                    cwd=request.folder,
                    env=dict(request.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            raise InfrastructureFailure(
                f"The driver could not be started: {error}; mend that and submit the run again."
            ) from error
        return DriverProcess(outlives(process), Path(path))

    def check_resources(self, workers: int, worker: Resources) -> None:
        """A cluster that exists already may grow: only this machine is checked."""
        if not self._joins:
            this_machine().check(workers, worker)


def _ray_here(ray_tmpdir: str | None) -> str:
    folder = short_ray_folder(ray_tmpdir)
    if folder is None:
        return "Ray on this machine"
    return (
        f"Ray on this machine (its files in {folder}: its sockets' paths would be too long in {default_ray_folder(ray_tmpdir)})"
    )


class DriverProcess(Handle):
    """A driver that runs on this machine."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.poll()

    def terminate(self) -> bool:
        self._process.send_signal(signal.SIGTERM)
        return True

    def stop(self, grace: float = 0.7) -> None:
        # Some of Ray's processes lead groups or sessions of their own: those are found as children while the driver lives.
        children: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self.pid).children(recursive=True)
        # A driver takes the first signal for a request to save; the second one ends it.
        for wait in (0.1, grace):
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(wait)
        self._process.kill()
        self._process.wait()
        for process in [*children, *_members_of_session(self.pid)]:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def output(self) -> str:
        try:
            with self._log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - OUTPUT_BYTES))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def forget(self) -> None:
        with contextlib.suppress(OSError):
            self._log.unlink()


def _members_of_session(leader: int) -> list[psutil.Process]:
    """What a driver that is gone left behind."""
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            if os.getsid(process.pid) == leader:
                members.append(process)
    return members
