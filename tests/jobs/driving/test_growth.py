"""An elastic run takes more workers at a checkpoint, once there was room for them for long enough."""

import time
from collections.abc import Callable
from pathlib import Path

from support.played_workers import Stage, StillRunning, Unhurried, save_checkpoint, succeeds

from jobs.driving.driver import Driver
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.records.schemas import ProgressDocument
from service.settings import Settings
from service.specs.train import TrainSpec

STANDS = 0.6


class Elastic(Stage):
    """Has as many workers as `rooms` says: the first for the first attempt."""

    count = 1

    def size(self) -> int:
        return self.count


def drive(stage: Elastic, spec: TrainSpec, folder: Path) -> int:
    stage.record.claim(spec)
    lease = Lease(stage.record)
    assert lease.acquire()
    return Driver(
        record=stage.record, spec=spec, settings=Settings.load(store=str(folder / "store")), lease=lease, folder=str(folder),
        fresh_budget=False, say=lambda message: None, make_group=lambda *_: stage, stops=Unhurried(), watch_seconds=0.01,
        room_stands=STANDS, reports=False,
    ).run()  # fmt: skip


def trains_until(over: Callable[[], bool], saves: bool = True) -> Callable[[RunRecord, int], None]:
    """Saves a checkpoint each 0.1 s; ends by itself when it is `over`."""
    steps, last = [0], [time.monotonic()]

    def act(record: RunRecord, number: int) -> None:
        if record.workers_are_to_stop():
            record.write_progress(ProgressDocument(attempt=number, phase="cancelled"))
            return None
        if over():
            return succeeds(record, number)
        record.write_progress(ProgressDocument(attempt=number, phase="training"))
        if saves and time.monotonic() - last[0] > 0.1:
            last[0] = time.monotonic()
            steps[0] += 10
            save_checkpoint(record, number, steps[0])
        raise StillRunning

    return act


def test_it_grows_once_at_a_checkpoint_when_room_has_stood(
    record: RunRecord, make_spec: Callable[..., TrainSpec], tmp_path: Path
) -> None:
    stage, began = Elastic(record, []), time.monotonic()
    stage.acts = [trains_until(lambda: time.monotonic() - began > 60), succeeds]
    stage.room = lambda: 2  # type: ignore[method-assign]
    stage.count = 1

    def later() -> int:
        return 2 if stage.configs else 1

    stage.size = later  # type: ignore[method-assign]
    assert drive(stage, make_spec(workers="1-2", retries=0), tmp_path) == 0
    first, second = record.state().attempts
    assert (first.reason, second.reason) == ("there is room for more workers", "succeeded")
    assert [config.workers for config in stage.configs] == [1, 2]
    assert first.seconds is not None
    assert first.seconds >= STANDS
    said = [row.message for row in record.events() if row.event == "grows"]
    assert said == [f"grows from 1 to 2 workers: saved at step {first.saved}"]
    assert not record.workers_are_to_stop()


def test_room_that_comes_and_goes_or_a_run_without_checkpoints_changes_nothing(
    record: RunRecord, make_spec: Callable[..., TrainSpec], tmp_path: Path
) -> None:
    began, looks = time.monotonic(), iter(range(10**6))
    stage = Elastic(record, [trains_until(lambda: time.monotonic() - began > 4 * STANDS)])
    stage.room = lambda: 2 if next(looks) % 8 else 1  # type: ignore[method-assign]
    assert drive(stage, make_spec(workers="1-2"), tmp_path) == 0
    assert [attempt.reason for attempt in record.state().attempts] == ["succeeded"]


def test_a_run_of_one_size_looks_at_no_room(record: RunRecord, make_spec: Callable[..., TrainSpec], tmp_path: Path) -> None:
    began = time.monotonic()
    stage = Elastic(record, [trains_until(lambda: time.monotonic() - began > 2 * STANDS)])
    stage.room = lambda: 1 // 0  # type: ignore[method-assign]
    stage.size = lambda: 2  # type: ignore[method-assign]
    assert drive(stage, make_spec(workers=2), tmp_path) == 0
