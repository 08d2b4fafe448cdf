"""Workers that play their attempts for a driver, whose store and lease are real."""

import time
from collections.abc import Callable
from typing import Self

from jobs.artifacts.checkpoints import CheckpointStore, Snapshot
from jobs.driving.stops import Stops
from jobs.worker.config import WorkerConfig
from jobs.worker_groups.base import Leaving
from service.records.run_record import RunRecord
from service.records.schemas import ProgressDocument, StateDocument
from service.specs.parts import CheckpointPolicy
from service.storage.json_documents import to_bytes
from service.storage.local import LocalStore

WORKER = {"rank": 0, "host": "h", "pid": 1}
Act = Callable[[RunRecord, int], BaseException | None]
"""What the workers of an attempt do, by its number; what it returns ended them."""
Play = Callable[..., tuple[int, "Stage"]]
"""Drives a run with these acts to its end; gives the exit code."""


class QuickStore(LocalStore):
    """Is looked at without pauses."""

    look_seconds = 0.01


class Unhurried(Stops):
    """Notes the pauses, and makes none."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        return self.wanted.is_set()


class Stage:
    """Plays the worker group: attempt by attempt, the next of `acts`; the last one stays."""

    wait_limit = 60.0

    def __init__(self, record: RunRecord, acts: list[Act]) -> None:
        self.record, self.acts = record, acts
        self.alive, self.configs, self.left = True, list[WorkerConfig](), False
        self.leaves: Callable[[], Leaving] = Leaving

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.left = True

    def size(self) -> int:
        return 2

    def room(self) -> int:
        return self.size()

    def start(self, config: WorkerConfig) -> "Played":
        self.configs.append(config)
        return Played(self, config.attempt)

    def is_alive(self) -> bool:
        return self.alive

    def leaving(self) -> Leaving:
        return self.leaves()


class Played:
    """One attempt; its act runs at the second look at it."""

    def __init__(self, stage: Stage, number: int) -> None:
        self.stage, self.number, self.looks = stage, number, 0
        self.error: BaseException | None = None

    def wait(self, seconds: float) -> bool:
        self.looks += 1
        if self.looks == 1:
            return False
        act = self.stage.acts[min(self.number, len(self.stage.acts)) - 1]
        try:
            self.error = act(self.stage.record, self.number)
        except StillRunning:
            time.sleep(seconds)
            return False
        return True


class StillRunning(Exception):
    """The attempt is not over."""


def succeeds(record: RunRecord, number: int) -> None:
    record.write_progress(ProgressDocument(attempt=number, phase="succeeded", metrics={"test_accuracy": 0.9}, workers=[WORKER]))


def is_lost(record: RunRecord, number: int) -> BaseException:
    return RuntimeError("a node went away")


def fails(*kinds: tuple[str, int]) -> Act:
    """Each worker leaves a failure of a kind with an exit code."""

    def act(record: RunRecord, number: int) -> BaseException:
        for rank, (kind, code) in enumerate(kinds):
            document = {"kind": kind, "exit_code": code, "message": f"{kind} of {rank}", "rank": rank, "traceback": "nets.py"}
            record.store.write(record.paths.failure(record.label(number), rank), to_bytes(document))
        return RuntimeError("Ray's own words")

    return act


def obeys(record: RunRecord, number: int) -> None:
    """Trains until it is asked to stop."""
    if not record.cancel_requested():
        record.write_progress(ProgressDocument(attempt=number, phase="training", workers=[{"rank": 0, "host": "h", "pid": 1}]))
        raise StillRunning
    record.write_progress(ProgressDocument(attempt=number, phase="cancelled", metrics={"loss": 0.5}))


def reasons(record: RunRecord) -> list[str]:
    return [attempt.reason for attempt in record.state().attempts]


def saves(step: int, act: Act) -> Act:
    """Saves a checkpoint before it ends."""

    def saving(record: RunRecord, number: int) -> BaseException | None:
        save_checkpoint(record, number, step)
        return act(record, number)

    return saving


def save_checkpoint(record: RunRecord, number: int, step: int) -> None:
    checkpoints = CheckpointStore(record, CheckpointPolicy(keep_last=9), record.label(number))
    found = record.checkpoints()
    checkpoints.adopt(found[-1].step if found else 0)
    checkpoints.save(Snapshot(step=step, epoch=1, model={}, optimizer={}, history=[], position={}))


def lost_attempts(count: int, first: int = 1) -> StateDocument:
    attempts = [
        {"number": number, "workers": [], "started": time.time(), "finished": 1.0 if number < count else None, "reason": None}
        for number in range(1, count + 1)
    ]
    return StateDocument(state="running", attempts=attempts, first_attempt=first, started=5.0, error=None)


def in_its_analysis(act: Act) -> Act:
    """An attempt that trained, tested and kept the model, and then ended as `act` does."""

    def ends(record: RunRecord, number: int) -> BaseException | None:
        metrics, members = {"test_accuracy": 0.9}, [{"rank": 0, "host": "h", "pid": number}]
        record.write_progress(ProgressDocument(attempt=number, phase="trained", step=40, metrics=metrics, workers=members))
        return act(record, number)

    return ends
