"""How often a steady run asks a bucket, all its processes together: time runs forty times as fast here."""

import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobs.artifacts.checkpoints import CheckpointStore
from jobs.artifacts.logs import LogShipper
from jobs.driving import heartbeat
from jobs.driving.driver import WATCH_SECONDS, Driver
from jobs.training.hooks import Hooks
from jobs.training.store_recorder import StoreRecorder
from jobs.worker_groups.base import Leaving
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.settings import Settings
from service.specs.parts import CheckpointPolicy
from service.specs.train import TrainSpec
from service.storage.local import LocalStore

FASTER = 40.0
SECONDS = 120.0
"""Of the time that runs fast."""
METHODS = (
    "read",
    "read_versioned",
    "read_range",
    "write",
    "objects",
    "list_folders",
    "upload",
    "delete",
    "version_of",
    "write_stream",
)


class Bucket(LocalStore):
    """A folder that takes itself for a bucket, and counts."""

    counts_requests = True
    look_seconds = 2.0 / FASTER

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.requests: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in METHODS:
            return found

        def counted(key: str, *rest: Any, **more: Any) -> Any:
            self.requests.append(f"{name} {rest[0] if name == 'upload' else key}")
            return found(key, *rest, **more)

        return counted


class Trains:
    """A group whose one attempt lasts until it is over; what rank 0 does is done by the test."""

    wait_limit = 60.0

    def __init__(self) -> None:
        self.begun, self.over = threading.Event(), threading.Event()
        self.error: BaseException | None = None

    def start(self, config: Any) -> "Trains":
        self.begun.set()
        return self

    def wait(self, seconds: float) -> bool:
        return self.over.wait(seconds)

    def __enter__(self) -> "Trains":
        return self

    def __exit__(self, *_: object) -> None: ...

    def size(self) -> int:
        return 1

    def is_alive(self) -> bool:
        return True

    def room(self) -> int:
        return 1

    def leaving(self) -> Leaving:
        return Leaving()


def test_a_steady_run_makes_at_most_one_request_and_a_fifth_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 10.0 / FASTER)
    store, spec = Bucket(tmp_path / "store"), TrainSpec(model="cnn", dataset="digits", epochs=1)
    record = RunRecord(store, "a-run")
    record.claim(spec)
    lease, group = Lease(record), Trains()
    assert lease.acquire()
    settings = Settings.load(store=str(tmp_path / "store"))
    made = Driver(
        record=record,
        spec=spec,
        settings=settings,
        lease=lease,
        folder="",
        fresh_budget=False,
        say=lambda line: None,
        make_group=lambda *_: group,
        reports=False,
        watch_seconds=WATCH_SECONDS / FASTER,
    )
    driving = threading.Thread(target=made.run)
    driving.start()
    assert group.begun.wait(20)
    own = RunRecord(store, "a-run", record.nonce)
    log = tmp_path / "log"
    log.touch()
    shipper = LogShipper(store, partial(own.paths.log, own.label(1), 0), log)
    watcher = StoreRecorder(
        own,
        1,
        CheckpointStore(own, CheckpointPolicy(), own.label(1)),
        [{"rank": 0, "host": "here", "pid": 1}],
        Hooks(tell=lambda line: None),
    )
    watcher.resume(0, [], ())
    watcher.update(phase="training")
    step = 0

    def train(seconds: float) -> None:
        nonlocal step
        end = time.monotonic() + seconds / FASTER
        while time.monotonic() < end:
            step += 1
            watcher.update(step=step)
            watcher.row({"step": step, "epoch": 1, "loss": 0.5})
            with log.open("a") as file:
                file.write(f"step {step}\n")
            time.sleep(0.01)

    train(20)
    assert made.state.state == "running"
    store.requests.clear()
    train(SECONDS)
    requests = list(store.requests)
    assert len(requests) <= 1.2 * SECONDS, sorted(requests)
    # And as often as somebody who watches it expects.
    told = [request for request in requests if request.endswith("/progress.json")]
    asked = [request for request in requests if request.endswith("/cancel.json")]
    # Both come about once in two seconds; a machine that others use stretches this time, which is 1 / FASTER of a run's, most of all.
    assert len(told) >= 0.1 * SECONDS and len(asked) >= 0.1 * SECONDS
    assert 0 < len([request for request in requests if "/logs/" in request]) <= 0.1 * SECONDS + 1
    watcher.update(phase="cancelled")
    watcher.close()
    shipper.close()
    group.over.set()
    driving.join(20)
    assert not driving.is_alive()
    assert [row["step"] for row in record.metric_rows()] == list(range(1, step + 1))
    assert record.progress().step == step
