"""A sweep from its first trial to its last: what a killed driver's successor does, and which failures count."""

import time
from typing import Any

import pytest
from support.trials_at_once import BASE, SPEC, Killed, Sweep, end, learns, states

from jobs.sweeps.search import Proposer
from service.records.run_record import RunRecord
from service.records.submission_schemas import Origin
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec
from service.storage.base import Store


def test_every_point_and_seed_is_a_run_of_its_own(sweep: Sweep, local_store: Store) -> None:
    assert sweep(learns) == 0
    record = RunRecord(local_store, "s")
    trials = record.trials()
    assert [(trial.id, trial.params["batch"], trial.seed) for trial in trials] == [
        (f"s-{number:04d}", batch, seed) for number, (batch, seed) in enumerate((b, s) for b in (16, 32, 64) for s in (0, 1))
    ]
    specs = [RunRecord(local_store, trial.id).spec() for trial in trials]
    assert [(spec.batch, spec.seed) for spec in specs] == [(trial.params["batch"], trial.seed) for trial in trials]
    submission = RunRecord(local_store, "s-0003").submission()
    assert (submission.sweep, submission.dataset_version, submission.folder) == ("s", "7", "/somewhere")
    state = record.state()
    assert (state.state, state.exit_code) == ("succeeded", 0)
    assert state.metrics["val_accuracy"] == pytest.approx(0.6405)
    assert record.progress().best.params == {"batch": 64}


def test_a_new_driver_resumes_a_killed_ones_sweep_and_repeats_no_trial_that_ended(sweep: Sweep, local_store: Store) -> None:
    done: list[str] = []

    def twice_then_killed(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        if len(done) == 3:
            raise Killed
        done.append(order["id"])
        return learns(record, order)

    with pytest.raises(Killed):
        sweep(twice_then_killed)
    assert states(local_store) == ["succeeded"] * 3 + ["queued"]

    def noted(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        done.append(order["id"])
        return learns(record, order)

    assert sweep(noted) == 0
    assert done == [f"s-{number:04d}" for number in range(6)]
    assert "resumes 1 of 4 trials; 3 are over" in [row.message for row in RunRecord(local_store, "s").events()]


def test_a_trial_that_was_claimed_but_not_noted_gets_the_spec_that_is_due(sweep: Sweep, local_store: Store) -> None:
    other = TrainSpec.model_validate({**BASE, "batch": 8})
    RunRecord(local_store, "s-0001").claim(other, Origin(sweep="s"))
    assert sweep(learns) == 0
    assert RunRecord(local_store, "s-0001").spec().batch == 16


def test_a_run_that_is_no_trial_is_not_touched(sweep: Sweep, local_store: Store) -> None:
    RunRecord(local_store, "s-0001").claim(TrainSpec.model_validate({**BASE, "batch": 8}))
    assert sweep(learns) == 2
    assert "belongs to a run that is no trial" in RunRecord(local_store, "s").state().error.message
    assert RunRecord(local_store, "s-0001").spec().batch == 8


def test_some_failures_are_no_failure_of_the_sweep_but_all_are(sweep: Sweep, local_store: Store) -> None:
    def some(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        if record.spec().batch == 32:
            return end(record, "failed", kind="user", message="my mistake")
        return learns(record, order)

    assert sweep(some) == 0
    assert states(local_store).count("failed") == 2


def test_when_all_fail_the_sweep_says_the_first_reason(sweep: Sweep, local_store: Store) -> None:
    assert sweep(lambda record, order: end(record, "failed", kind="user", message="my mistake")) == 3
    assert "All 6 trials failed, the first by: my mistake" in RunRecord(local_store, "s").state().error.message


def test_trials_that_did_not_end_are_named_and_resumed(sweep: Sweep, local_store: Store) -> None:
    assert sweep(lambda record, order: learns(record, order) if record.spec().batch < 64 else None) == 4
    error = RunRecord(local_store, "s").state().error
    assert "2 of 6 trials did not end, s-0004 among them" in error.message
    assert sweep(learns) == 0


def lost(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
    return end(record, "failed", kind="infrastructure", exit_code=4, message="a node was lost")


def test_when_all_fail_by_what_they_cannot_help_the_exit_code_says_so(sweep: Sweep, local_store: Store) -> None:
    def mixed(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        if order["id"] == "s-0004":
            return lost(record, order)
        return end(record, "failed", kind="user", exit_code=3, message="my mistake")

    assert sweep(mixed) == 4
    error = RunRecord(local_store, "s").state().error
    assert (error.kind, error.message) == ("infrastructure", "All 6 trials failed, s-0004 by: a node was lost")


def test_trials_that_were_lost_run_again_and_what_they_find_then_counts(sweep: Sweep, local_store: Store) -> None:
    assert sweep(lost) == 4

    def slowly(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        # The driver looks at all trials meanwhile.
        time.sleep(0.5)
        return learns(record, order)

    assert sweep(slowly) == 0
    state = RunRecord(local_store, "s").state()
    assert (state.state, state.error) == ("succeeded", None)
    assert state.metrics["val_accuracy"] == pytest.approx(0.6405)
    assert RunRecord(local_store, "s").progress().trials == {"succeeded": 6}


@pytest.mark.parametrize("scheduler", ["asha", "median"])
def test_a_trial_that_is_over_is_reported_to_the_scheduler_again_and_not_trained(
    sweep: Sweep, local_store: Store, scheduler: str
) -> None:
    spec = SPEC.model_copy(update={"scheduler": SPEC.scheduler.model_copy(update={"name": scheduler})})

    def stopped_then_killed(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        assert not order["over"]
        if order["id"] == "s-0002":
            raise Killed
        end(record, "cancelled", 0.1)
        return {"val_accuracy": 0.1, "evaluation": 2}

    with pytest.raises(Killed):
        sweep(stopped_then_killed, spec)
    told: dict[str, bool] = {}

    def noted(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        told[order["id"]] = order["over"]
        return {"val_accuracy": 0.1, "over": True} if order["over"] else learns(record, order)

    assert sweep(noted, spec) == 0
    assert told == {f"s-{number:04d}": number < 2 for number in range(6)}
    assert states(local_store) == ["stopped"] * 2 + ["succeeded"] * 4


def test_tpe_takes_each_seed_once_however_often_the_scheduler_does(
    sweep: Sweep, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = {"optimizer.learning_rate": {"loguniform": [1e-4, 1e-1]}}
    keys = {"seeds": 2, "search": "tpe", "trials": 4, "scheduler": {"name": "asha"}}
    base = {**BASE, "optimizer": {"name": "adam", "learning_rate": 0.1}}
    spec = SweepSpec.model_validate({"base": [{"name": "b", "values": base}], "space": rate, **keys})
    told: list[tuple[int, list[float]]] = []
    monkeypatch.setattr(Proposer, "tell", lambda self, point, values: told.append((point.number, values)))

    def first(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        if order["id"] == "s-0001":
            raise Killed
        return end(record, "succeeded", 0.2)

    with pytest.raises(Killed):
        sweep(first, spec)
    assert (
        sweep(lambda record, order: {"val_accuracy": 0.2, "over": True} if order["over"] else end(record, "succeeded", 0.8), spec)
        == 0
    )
    assert told == [(0, [0.2, 0.8]), (1, [0.8, 0.8])]


def test_a_trial_that_the_scheduler_stops_is_stopped_with_the_reason(sweep: Sweep, local_store: Store) -> None:
    spec = SPEC.model_copy(update={"scheduler": SPEC.scheduler.model_copy(update={"name": "asha"})})

    def judged(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        assert order["by_evaluation"]
        if record.spec().batch == 16:
            end(record, "cancelled", 0.1)
            return {"val_accuracy": 0.1, "evaluation": 2}
        return learns(record, order)

    assert sweep(judged, spec) == 0
    assert states(local_store) == ["stopped"] * 2 + ["succeeded"] * 4
    stopped = RunRecord(local_store, "s").trials()[0].stopped
    assert stopped.document() == {
        "by": "asha",
        "evaluation": 2,
        "message": "asha: after 2 evaluations val_accuracy 0.1000 was not among the best",
    }
