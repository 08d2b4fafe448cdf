"""A user at work: a folder, a model of their own, the command line in processes of its own, a store; for whole runs on a real Ray."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from jobs.artifacts.checkpoints import CheckpointStore
from service import runs
from service.records.run_record import RunRecord
from service.settings import Settings
from service.specs.parts import CheckpointPolicy
from service.storage import open_store
from service.storage.base import Store
from support import hangs

BIN = Path(sys.executable).parent
COMMAND_SECONDS = 600
"""For a command that hangs (assumed: many times what any takes on a machine that other tests share); pytest's own limit is the test's."""

# Batch normalisation and dropout: what a resume must put back beside the weights. The callback leaves time for a kill.
NETS = """
import time
import keras

def build(input_shape, classes, dropout=0.3):
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(image)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Dropout(dropout)(keras.layers.Flatten()(x))
    return keras.Model(image, keras.layers.Dense(classes)(x))

class Slow(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.05)
"""
SPEC = """
model: nets:build
dataset: digits
optimizer: {name: adam, learning_rate: {name: cosine, initial: 0.003, warmup_steps: 20}}
callbacks: [{name: "nets:Slow"}]
steps: 160
batch: 48
seed: 7
workers: 2
worker: {cpus: 0.5}
checkpoint: {every_steps: 10, keep_last: 3}
log_every: 10
"""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


@dataclass
class Workspace:
    """A user's folder with a model of their own, a spec, and a store."""

    folder: Path
    store_url: str
    environment: dict[str, str] = field(default_factory=dict)
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "nets.py").write_text(NETS)
        (self.folder / "run.yaml").write_text(SPEC)

    def fill(self) -> None:
        """Put files of the user's own into the folder that have the names of Python's modules and of Delayline's; none is for import."""
        names = (
            "random", "types", "json", "logging", "abc", "enum", "re", "io", "os", "socket", "queue", "signal", "copy", "string", "token",
            "inspect", "asyncio", "pickle", "platform", "time", "service", "jobs/__init__",
        )  # fmt: skip
        (self.folder / "jobs").mkdir()
        for name in names:
            (self.folder / f"{name}.py").write_text(f"raise RuntimeError('a file of the user: {name}')\n")

    @property
    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DELAYLINE_STORE": self.store_url,
            "DELAYLINE_CACHE": str(self.folder / "cache"),
            **self.environment,
        }

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start `delayline`."""
        number = len(self.started)
        with self._output(number).open("w") as output, self._errors(number).open("w") as errors:
            process = subprocess.Popen(
                [str(BIN / "delayline"), *arguments], cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=errors, text=True,
            )  # fmt: skip
        self.started.append(process)
        return process

    def delayline(self, *arguments: str) -> Done:
        """Run `delayline` to its end."""
        return self.end_of(self.start(*arguments))

    def end_of(self, process: "subprocess.Popen[str]") -> Done:
        """Wait for a command that was started; fail with the stacks of its processes where it does not end."""
        number = self.started.index(process)
        try:
            code = process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired as error:
            stands = hangs.told(family(process.pid), self._output(number), self._errors(number))
            raise AssertionError(f"{error}\n{stands}") from None
        return Done(code, self._output(number).read_text(), self._errors(number).read_text())

    def _output(self, number: int) -> Path:
        return self.folder / f"stdout-{number}.txt"

    def _errors(self, number: int) -> Path:
        return self.folder / f"stderr-{number}.txt"

    @property
    def store(self) -> Store:
        """The store, opened in this process."""
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        try:
            store = open_store(Settings.load(store=self.store_url))
            store.exists("made-while-the-credentials-are-set")
            return store
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def show(self, run_id: str) -> Any:
        """The run's document, as `runs show --json` prints it."""
        return runs.show(self.store, run_id).document()

    def wait_for(self, name: str, moment: Callable[[Any], bool], seconds: float = 280) -> Any:
        """The document of a run or sweep as soon as `moment` holds of it; fail where it ends before."""
        store, end = self.store, time.monotonic() + seconds
        while time.monotonic() < end:
            document = None
            # It is not there yet, or not whole.
            with contextlib.suppress(Exception):
                document = runs.show(store, name).document()
                if moment(document):
                    return document
            assert document is None or document["state"] not in ("failed", "succeeded"), document["error"]
            time.sleep(0.1)
        raise AssertionError(f"What {name} was waited for did not come in {seconds} s")

    def wait_for_step(self, run_id: str, step: int) -> Any:
        """The run's document once it has a checkpoint at or past `step`."""
        return self.wait_for(run_id, lambda run: run["checkpoints"][-1]["step"] >= step)

    def wait_for_trials(self, sweep: str, count: int) -> Any:
        """The sweep's document once so many of its trials have succeeded."""
        return self.wait_for(sweep, lambda document: sum(each["state"] == "succeeded" for each in document["trials"]) >= count)

    def clean_up(self) -> None:
        """End whatever a failed test left."""
        for process in self.started:
            if process.poll() is None:
                for child in family(process.pid):
                    with contextlib.suppress(psutil.Error):
                        child.kill()
                process.kill()
            process.wait()


def family(pid: int) -> list[psutil.Process]:
    """The process and all below it."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def command_of(process: psutil.Process) -> str:
    """The command line of a process, or nothing for one that is gone."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL, all at once."""
    assert processes, "there is nothing to kill"
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)


def kill_when(moment: Callable[[], bool], victims: Callable[[], list[psutil.Process]], seconds: float = 280) -> None:
    """SIGKILL the victims at a `moment` of the store. They stand still while it is looked at: what they were about to write is not written."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if moment():
            found = [process for process in victims() if _signal(process, signal.SIGSTOP)]
            while any(process.is_running() and process.status() not in STILL for process in found):
                time.sleep(0.01)
            if moment():
                kill(found)
                return
            for process in found:
                _signal(process, signal.SIGCONT)
        time.sleep(0.05)
    raise AssertionError(f"The moment for the kill did not come in {seconds} s")


STILL = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


def _signal(process: psutil.Process, number: int) -> bool:
    """Whether it was there to get the signal."""
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)
        return True
    return False


def tensors(workspace: Workspace, run_id: str) -> dict[str, np.ndarray]:
    """Every variable of the run's last checkpoint, of the model and of the optimizer."""
    checkpoints = CheckpointStore(RunRecord(workspace.store, run_id), CheckpointPolicy())
    snapshot = checkpoints.load(workspace.show(run_id)["checkpoints"][-1]["step"])
    return {f"model/{name}": array for name, array in snapshot.model.items()} | {
        f"optimizer/{name}": array for name, array in snapshot.optimizer.items()
    }


def assert_same_end(workspace: Workspace, run_id: str, calm: Workspace) -> None:
    """Weights and optimizer equal bit for bit to those of the undisturbed run; the same rows of metrics, each step once."""
    ours, theirs = tensors(workspace, run_id), tensors(calm, "calm")
    assert sorted(ours) == sorted(theirs)
    assert [name for name in ours if ours[name].tobytes() != theirs[name].tobytes()] == []
    document, undisturbed = workspace.show(run_id), calm.show("calm")
    steps = [row["step"] for row in document["history"]]
    assert steps == sorted(set(steps))
    assert [figures(row) for row in document["history"]] == [figures(row) for row in undisturbed["history"]]
    assert document["metrics"] == undisturbed["metrics"]


def figures(row: dict[str, Any]) -> dict[str, Any]:
    """A row of metrics without what the clock says."""
    return {name: value for name, value in row.items() if name not in ("time", "examples_per_second")}
