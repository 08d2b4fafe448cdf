"""What Ray Tune asks of a sweep, without Ray: orders, ends, pauses, the stop."""

import json
from typing import Any

import pytest
from support.trials_at_once import end

from jobs.sweeps.dispatcher import CANCELLED, TrialDispatcher
from service.errors import StoreUnreachable
from service.records.cancel_requests import SWEEP
from service.records.run_record import RunRecord
from service.settings import Settings
from service.specs.sweep import SweepSpec
from service.storage.base import Store
from service.sweeps.trials import BUDGET

BASE = {"model": "lenet5", "dataset": "digits", "epochs": 9}
GRID = {
    "base": [{"name": "b", "values": BASE}], "space": {"batch": {"grid": [16, 32, 64]}}, "seeds": 2, "budget": 100.0,
    "scheduler": "asha",
}  # fmt: skip
IDS = [f"s-{number:04d}" for number in range(6)]


class Told(list[tuple[str, str]]):
    """The events that the sweep keeps."""

    def __call__(self, event: str, message: str, **_: object) -> None:
        self.append((event, message))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def dispatcher(local_store: Store, told: Told) -> TrialDispatcher:
    spec = SweepSpec.model_validate(GRID)
    record = RunRecord(local_store, "s")
    record.claim(spec)
    return TrialDispatcher(record, spec, Settings.load(store=local_store.url), "/somewhere", told)


def take_all(dispatcher: TrialDispatcher) -> list[dict[str, Any]]:
    return list(iter(dispatcher.take, None))


def cancel_reason(store: Store, run_id: str) -> str | None:
    standing = RunRecord(store, run_id).cancel.standing()
    return None if standing is None else standing.reason


def test_every_trial_is_handed_out_once_and_is_a_run_by_then(dispatcher: TrialDispatcher, local_store: Store) -> None:
    orders = take_all(dispatcher)
    assert [order["id"] for order in orders] == IDS
    seen = [(spec.batch, spec.seed) for spec in (RunRecord(local_store, run_id).spec() for run_id in IDS)]
    assert len(set(seen)) == 6
    assert dispatcher.snapshot()[1] == set(IDS)
    for order in orders:
        dispatcher.ended(order["id"], end(RunRecord(local_store, order["id"]), "succeeded", 0.5))
    assert dispatcher.snapshot()[1] == set()
    assert dispatcher.take() is None


def test_an_order_holds_no_secret(dispatcher: TrialDispatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "s3cr3t")
    text = json.dumps(dispatcher.take())
    assert "s3cr3t" not in text and "TOKEN" not in text and "SECRET" not in text


def test_one_whose_scheduler_ends_it_is_asked_to_stop_and_says_after_which_evaluation(
    dispatcher: TrialDispatcher, local_store: Store, told: Told
) -> None:
    run_id = dispatcher.take()["id"]
    dispatcher.ended(run_id, {"val_accuracy": 0.25, "evaluation": 3})
    (trial, *_) = RunRecord(local_store, "s").trials()
    assert trial.stopped is not None and (trial.stopped.by, trial.stopped.evaluation) == ("asha", 3)
    assert cancel_reason(local_store, run_id) == SWEEP
    assert told[-1] == (
        "stopped",
        f"{run_id} stopped early by asha: after 3 evaluations val_accuracy 0.2500 was not among the best",
    )


def test_one_that_succeeded_before_the_scheduler_ended_it_counts_as_that(dispatcher: TrialDispatcher, local_store: Store) -> None:
    run_id = dispatcher.take()["id"]
    end(RunRecord(local_store, run_id), "succeeded", 0.5)
    dispatcher.ended(run_id, {"val_accuracy": 0.5, "evaluation": 9})
    assert RunRecord(local_store, "s").trials()[0].stopped is None
    assert cancel_reason(local_store, run_id) is None


def test_one_whose_process_died_leaves_nothing_but_its_place(dispatcher: TrialDispatcher, local_store: Store, told: Told) -> None:
    run_id = dispatcher.take()["id"]
    waiting = dispatcher.snapshot()[1] - {run_id}
    dispatcher.ended(run_id, None)
    assert dispatcher.snapshot()[1] == waiting
    assert RunRecord(local_store, "s").trials()[0].stopped is None
    assert (cancel_reason(local_store, run_id), told) == (None, [])


def test_a_pause_lets_the_run_save_and_is_noted(dispatcher: TrialDispatcher, local_store: Store) -> None:
    run_id = dispatcher.take()["id"]
    dispatcher.pause(run_id)
    assert cancel_reason(local_store, run_id) == SWEEP
    assert RunRecord(local_store, "s").trials()[0].pauses
    dispatcher.note_taken(run_id, {})
    assert not RunRecord(local_store, "s").trials()[0].pauses


@pytest.mark.parametrize("why", [CANCELLED, BUDGET])
def test_a_stop_ends_what_is_under_way_and_nothing_else(
    dispatcher: TrialDispatcher, local_store: Store, told: Told, why: str
) -> None:
    first, second, third = (dispatcher.take()["id"] for _ in range(3))
    dispatcher.ended(first, end(RunRecord(local_store, first), "succeeded", 0.5))
    end(RunRecord(local_store, second), "failed")
    unended = dispatcher.snapshot()[1] - {second}
    dispatcher.stop(why)
    assert dispatcher.take() is None
    assert [cancel_reason(local_store, run_id) for run_id in (first, second, third)] == [None, None, SWEEP]
    stopped = {trial.id for trial in RunRecord(local_store, "s").trials() if trial.stopped}
    # Those that wait for Tune included: another seed of the same point.
    assert third in unended and stopped == (unended if why == BUDGET else set())
    assert cancel_reason(local_store, "s") == (BUDGET if why == BUDGET else None)
    assert [event for event, _ in told] == (["budget"] if why == BUDGET else [])


@pytest.mark.parametrize("why", [CANCELLED, BUDGET])
def test_a_stop_that_the_store_refuses_is_done_whole_by_the_next_call(
    dispatcher: TrialDispatcher, local_store: Store, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    taken = [dispatcher.take()["id"] for _ in range(3)]
    calls = 0
    real = RunRecord.request_cancel

    def refuse_the_second(record: RunRecord, reason: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise StoreUnreachable("away")
        real(record, reason)

    monkeypatch.setattr(RunRecord, "request_cancel", refuse_the_second)
    with pytest.raises(StoreUnreachable):
        dispatcher.stop(why)
    dispatcher.stop(why)
    assert dispatcher.stopped_by == why
    assert [cancel_reason(local_store, run_id) for run_id in taken] == [SWEEP] * 3


def test_trials_that_train_together_end_together_each_with_its_own_result(
    dispatcher: TrialDispatcher, local_store: Store
) -> None:
    memoriser = {"model": "gru", "dataset": "bits", "task": "bit-memory", "epochs": 2, "batch": 20, "optimizer": {"name": "adam"}}
    spec = SweepSpec.model_validate(
        {"base": [{"name": "b", "values": memoriser}], "space": {"optimizer.learning_rate": {"grid": [0.001, 0.01]}}, "seeds": 2}
    )
    record, told = RunRecord(local_store, "t"), Told()
    record.claim(spec)
    together = TrialDispatcher(record, spec, Settings.load(store=local_store.url), "/somewhere", told)
    together.share = 3
    order = together.take()
    assert (order["id"], order["others"]) == ("t-0000", ("t-0001", "t-0002"))
    assert together.snapshot()[1] == {"t-0000", "t-0001", "t-0002", "t-0003"}
    for number, run_id in enumerate((order["id"], *order["others"])):
        end(RunRecord(local_store, run_id), "succeeded", number / 10)
    together.ended(order["id"], {"over": True})
    assert together.snapshot()[1] == {"t-0003"}
    assert [event for event, _ in told] == ["together"]
    assert together.take()["id"] == "t-0003"
