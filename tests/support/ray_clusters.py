"""Real Ray clusters for tests: nodes of one CPU each on this machine, tokens on, with the Jobs API, all on free loopback ports.

`RayPods` has its nodes as KubeRay has them: a process `ray start --block` each, which gets SIGTERM when the pod is deleted.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from support import s3_servers
from support.workspace import family

BIN = Path(sys.executable).parent
NODE_SECONDS = 240


@dataclass
class RayCluster:
    """A cluster, whose sockets lie below `folder`."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    """What else its processes find in their environment, such as the credentials of a store."""
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    port: int = 0
    dashboard_port: int = 0
    nodes: list[list[psutil.Process]] = field(default_factory=list)
    """The raylet of each node, whose children are its agents and workers; the head comes first."""

    @property
    def url(self) -> str:
        """Of the dashboard and the Jobs API."""
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def access(self) -> dict[str, str]:
        """What a client needs in its environment."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}

    def start(self, nodes: int = 2) -> None:
        """Start the head, then the other nodes; on a machine so busy that Ray's own limit of 30 s passes, anew."""
        for tries_left in (2, 1, 0):
            try:
                self._start(nodes)
                return
            except (RuntimeError, subprocess.TimeoutExpired):
                self.kill()
                self.nodes.clear()
                if not tries_left:
                    raise

    def _start(self, nodes: int) -> None:
        self.port, self.dashboard_port, client_port = s3_servers.free_ports(3)
        self._start_node(
            "--head", "--node-ip-address=127.0.0.1", f"--port={self.port}", "--include-dashboard=true",
            f"--dashboard-port={self.dashboard_port}", f"--ray-client-server-port={client_port}", f"--temp-dir={self.folder}",
        )  # fmt: skip
        for _ in range(nodes - 1):
            self._start_node(f"--address=127.0.0.1:{self.port}")

    def _start_node(self, *options: str) -> None:
        before = self.processes()
        agent, agent_grpc, runtime, metrics = s3_servers.free_ports(4)
        ports = [
            f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}",
            f"--runtime-env-agent-port={runtime}", f"--metrics-export-port={metrics}",
        ]  # fmt: skip
        done = subprocess.run(
            [BIN / "ray", "start", *options, *ports, "--num-cpus=1", "--object-store-memory=80000000"],
            env={**self._environment, **self.environment}, timeout=NODE_SECONDS, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"A node of Ray did not start: {done.stdout[-2000:]} {done.stderr[-2000:]}")
        self.nodes.append([process for process in self.processes() - before if process.name() == "raylet"])

    @property
    def _environment(self) -> dict[str, str]:
        """This process's environment without what would show the cluster of the tests' own."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DELAYLINE_", "AWS_", "RAY_"))}
        path = f"{BIN}{os.pathsep}{inherited.get('PATH', '')}"
        return {**inherited, "PATH": path, "RAY_USAGE_STATS_ENABLED": "0", **self.access}

    def processes(self) -> set[psutil.Process]:
        """All that belong to the cluster and live."""
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self.folder) in " ".join(process.cmdline()):
                    found.add(process)
        return found

    def kill_node(self, index: int) -> None:
        """End a node without a word, workers included."""
        for process in [child for one in self.nodes[index] for child in family(one.pid)]:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def kill(self) -> None:
        """End all of it, without a word."""
        for process in [child for one in self.processes() for child in family(one.pid)]:
            with contextlib.suppress(psutil.Error):
                process.kill()


@dataclass
class RayPods(RayCluster):
    """Each node has an address of its own on this machine's loopback; the head has no CPU for workers."""

    pods: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    """The process of each node; the head's comes first."""

    def _start(self, nodes: int) -> None:
        self.pods.clear()
        self.port, self.dashboard_port, client_port = s3_servers.free_ports(3)
        self.add_node(
            "--head", f"--port={self.port}", "--include-dashboard=true", f"--dashboard-port={self.dashboard_port}",
            f"--ray-client-server-port={client_port}", f"--temp-dir={self.folder}", "--num-cpus=0",
        )  # fmt: skip
        for _ in range(nodes - 1):
            self.add_node(f"--address=127.0.0.1:{self.port}")

    def add_node(self, *options: str) -> None:
        """Start a node and return once it stands."""
        number = len(self.pods)
        agent, agent_grpc, runtime, metrics = s3_servers.free_ports(4)
        cpus = () if "--head" in options else ("--num-cpus=1",)
        arguments = [
            *options, *cpus, f"--node-ip-address=127.0.0.{1 + number}", "--object-store-memory=80000000", "--block",
            f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}",
            f"--runtime-env-agent-port={runtime}", f"--metrics-export-port={metrics}",
        ]  # fmt: skip
        said = self.folder / f"node-{number}.txt"
        with said.open("wb") as output:
            process = subprocess.Popen(
                [BIN / "ray", "start", *arguments], env={**self._environment, **self.environment}, stdout=output, stderr=output
            )
        self.pods.append(process)
        end = time.monotonic() + NODE_SECONDS
        while "--block" not in said.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"A node of Ray did not start: {said.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)

    def delete(self, index: int) -> None:
        """Begin a node's end as the deletion of a pod does."""
        self.pods[index].send_signal(signal.SIGTERM)

    def pod_of(self, pid: int) -> int:
        """The index of the node that a process is on."""
        return next(index for index, pod in enumerate(self.pods) if pid in {each.pid for each in family(pod.pid)})

    def kill(self) -> None:
        """End all of it, as when the grace is over."""
        super().kill()
        for process in self.pods:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running(**environment: str) -> Iterator[RayCluster]:
    """A cluster of two nodes; `environment`: what else its processes find there."""
    # A socket's path has 107 bytes at most, of which Ray takes 63: too many for a test's own folder.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        cluster = RayCluster(Path(folder), environment)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.kill()


@contextlib.contextmanager
def running_pods(nodes: int, **environment: str) -> Iterator[RayPods]:
    """A cluster of so many nodes, the head included, as KubeRay starts them."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        cluster = RayPods(Path(folder), environment)
        try:
            cluster.start(nodes)
            yield cluster
        finally:
            cluster.kill()
