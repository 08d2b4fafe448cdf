"""What rank 0 writes to the store while a run trains, and when it stops the training."""

import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobs.artifacts.checkpoints import CheckpointStore, Snapshot
from jobs.training.hooks import Hooks
from jobs.training.intervals import Intervals
from jobs.training.recorder import NullRecorder, Recorder
from jobs.training.state import LoopState
from jobs.training.store_recorder import StoreRecorder
from service.errors import LeaseLost
from service.records.run_record import RunRecord
from service.records.schemas import Worker
from service.specs.parts import CheckpointPolicy
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.storage.local import LocalStore

ROW = {"epoch": 1, "step": 8, "loss": 0.123456789, "time": 1.0}
MEMBERS = [{"rank": 0, "host": "here", "pid": 1}]


@pytest.fixture
def record(local_store: Store) -> RunRecord:
    record = RunRecord(local_store, "a-run")
    record.claim(TrainSpec.model_validate({"model": "dense", "dataset": "digits", "epochs": 2}))
    return record


@pytest.fixture
def make(record: RunRecord) -> Iterator[Callable[..., StoreRecorder]]:
    """Makes the recorder of the first attempt, closed in the end."""
    made: list[StoreRecorder] = []

    def make(
        should_continue: Callable[[Any], bool] = lambda row: True, tell: Callable[[str], None] = lambda line: None, **more: Any
    ):  # type: ignore[no-untyped-def]
        checkpoints = CheckpointStore(record, CheckpointPolicy(), record.label(1), **more)
        made.append(StoreRecorder(record, 1, checkpoints, MEMBERS, Hooks(should_continue, tell)))
        made[-1].resume(0, [], ())
        return made[-1]

    yield make
    for recorder in made:
        recorder.close()


def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("kind", [StoreRecorder, NullRecorder])
def test_every_recorder_has_all_methods_of_the_seam_with_its_parameters(kind: type) -> None:
    names = [name for name, value in vars(Recorder).items() if inspect.isfunction(value) and not name.startswith("_")]
    assert "stop_requested" in names
    for name in names:
        assert inspect.signature(getattr(kind, name)) == inspect.signature(getattr(Recorder, name)), name


def test_whoever_started_the_worker_is_asked_once_for_each_row_and_may_end_the_training(make: Callable[..., Any]) -> None:
    asked: list[Any] = []

    def should_continue(row: Any) -> bool:
        asked.append(row)
        return len(asked) < 2

    recorder = make(should_continue)
    assert not recorder.stop_requested()
    recorder.row(ROW)
    # When the row comes, what is due at its step is not saved yet.
    assert asked == []
    assert not recorder.stop_requested()
    assert not recorder.stop_requested()
    recorder.row({**ROW, "step": 16})
    assert recorder.stop_requested()
    assert recorder.stop_requested()
    assert [row["step"] for row in asked] == [8, 16]


def test_a_request_in_the_store_stops_the_training(
    make: Callable[..., Any], record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalStore, "look_seconds", 0.01)
    recorder = make()
    assert not recorder.stop_requested()
    record.request_cancel("user")
    until(recorder.stop_requested)


def test_rows_events_and_the_end_are_in_the_store_and_in_the_log(make: Callable[..., Any], record: RunRecord) -> None:
    lines: list[str] = []
    recorder = make(tell=lines.append)
    recorder.started("the layers", Intervals(record.spec(), 4), 0)
    recorder.row(ROW)
    recorder.event("early stop", "it is good enough", step=8)
    recorder.ended("succeeded", {"loss": 0.1}, LoopState.fresh(2))
    recorder.close()
    assert record.metric_rows() == [ROW]
    assert [row.event for row in record.events()] == ["training", "early stop"]
    progress = record.progress()
    assert (progress.phase, progress.metrics, progress.workers) == ("succeeded", {"loss": 0.1}, (Worker(**MEMBERS[0]),))
    assert (progress.steps, progress.model_summary) == (8, "the layers")
    assert lines == ["the layers", "epoch=1 step=8 loss=0.123457 time=1", "early stop: it is good enough"]


def test_a_model_that_cannot_be_looked_at_or_drawn_trains_without_remarks_and_graph(
    make: Callable[..., Any], record: RunRecord
) -> None:
    lines: list[str] = []
    recorder = make(tell=lines.append)

    def fails() -> Any:
        raise ValueError("no such layer")

    recorder.remarks(fails)
    recorder.graph(fails)
    assert [line.split(": ", 1)[1] for line in lines] == ["ValueError: no such layer"] * 2
    recorder.close()
    assert record.events() == []


def test_a_saved_checkpoint_is_an_event_once_it_is_in_the_store(make: Callable[..., Any], record: RunRecord) -> None:
    recorder = make()
    recorder.save(lambda: Snapshot(step=3, epoch=1, model={}, optimizer={}, history=[], position={}))
    recorder.wait_for_checkpoints()
    assert [checkpoint.step for checkpoint in record.checkpoints()] == [3]
    recorder.close()
    assert [(row.event, row.step) for row in record.events()] == [("checkpoint", 3)]


def test_what_a_checkpoint_meets_in_the_background_is_raised_in_the_training(make: Callable[..., Any]) -> None:
    owned = [True]

    def fence() -> None:
        if not owned[0]:
            raise LeaseLost("another driver took over")

    recorder = make(fence=fence)
    recorder.still_own()
    owned[0] = False
    with pytest.raises(LeaseLost):
        recorder.still_own()
    recorder.save(lambda: Snapshot(step=3, epoch=1, model={}, optimizer={}, history=[], position={}))
    with pytest.raises(LeaseLost):
        recorder.wait_for_checkpoints()
