"""What the watch does beside Tune: it stops trials, writes progress, and starts the driver again when Ray died."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobs.sweeps import watch as module
from jobs.sweeps.dispatcher import CANCELLED, TrialDispatcher
from jobs.sweeps.progress import SweepProgress
from jobs.sweeps.watch import SweepWatch
from service.errors import StoreUnreachable
from service.records.run_record import RunRecord
from service.settings import Settings
from service.specs.sweep import SweepSpec
from service.storage.base import Store
from service.sweeps.trials import BUDGET

BASE = {"model": "lenet5", "dataset": "digits", "epochs": 9}
SPEC = SweepSpec.model_validate(
    {"base": [{"name": "b", "values": BASE}], "space": {"batch": {"grid": [16, 32, 64]}}, "budget": 100.0}
)
MakeWatch = Callable[..., SweepWatch]


@pytest.fixture
def dispatcher(local_store: Store) -> TrialDispatcher:
    """Of a sweep whose first trial Tune has."""
    record = RunRecord(local_store, "s")
    record.claim(SPEC)
    made = TrialDispatcher(record, SPEC, Settings.load(store=local_store.url), "/somewhere", lambda *_, **__: None)
    assert made.take()
    return made


@pytest.fixture
def make_watch(dispatcher: TrialDispatcher, local_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeWatch]:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(type(local_store), "look_seconds", 0.01)

    def make(used: float = 5.0, **changed: Any) -> SweepWatch:
        progress = SweepProgress(RunRecord(local_store, "s"), SPEC, dispatcher, attempt=2, used_seconds=used)
        given = {
            "dispatcher": dispatcher, "progress": progress, "stop_wanted": lambda: False,
            "is_alive": lambda: True, "start_over": lambda: None, "say": lambda _: None,
        }  # fmt: skip
        return SweepWatch(**{**given, **changed})

    yield make


def within(watch: SweepWatch, true: Callable[[], bool]) -> None:
    """Let it look until that is true."""
    with watch:
        for _ in range(2000):
            if true():
                return
            threading.Event().wait(0.01)
    raise AssertionError("it never came true")


def test_a_request_to_stop_reaches_the_trials_though_the_store_refuses_at_first(
    make_watch: MakeWatch, dispatcher: TrialDispatcher, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = iter(range(3))
    write = RunRecord.write_trials

    def refuses(record: RunRecord, trials: Any) -> None:
        if next(refusals, None) is not None:
            raise StoreUnreachable("away")
        write(record, trials)

    monkeypatch.setattr(RunRecord, "write_trials", refuses)
    within(make_watch(stop_wanted=lambda: True), RunRecord(local_store, "s-0000").cancel_requested)
    assert dispatcher.stopped_by == CANCELLED
    assert dispatcher.take() is None


def test_the_time_of_earlier_drivers_counts_for_the_budget(make_watch: MakeWatch, dispatcher: TrialDispatcher) -> None:
    within(make_watch(used=99.99), lambda: dispatcher.stopped_by == BUDGET)
    assert dispatcher.table.trials[0].stopped.by == BUDGET


def test_the_driver_starts_again_once_rays_processes_are_gone(make_watch: MakeWatch) -> None:
    again = threading.Event()
    within(make_watch(is_alive=lambda: False, start_over=again.set), again.is_set)


def test_the_table_of_trials_is_written_meanwhile(make_watch: MakeWatch, local_store: Store) -> None:
    record = RunRecord(local_store, "s")
    within(make_watch(), lambda: record.progress().trials is not None)
    progress = record.progress()
    assert (progress.trials, progress.total) == ({"queued": 1}, 3)
    assert progress.used_seconds >= 5.0
