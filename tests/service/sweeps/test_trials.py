import time

import pytest
from support.answered_rows import trial_row

from service.records.answers import TrialRow
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.records.schemas import Attempt, ProgressDocument, StateDocument
from service.records.submission_schemas import Origin
from service.records.sweep_schemas import Mutation, Stopped, Trial
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.sweeps.trials import best_of, counts_of, point_rows, results_of, seconds_left, table, trial_rows

SPEC = TrainSpec.model_validate({"model": "lenet5", "dataset": "digits", "epochs": 2})


def row(number: int, point: int, state: str, value: float | None) -> TrialRow:
    metrics = {} if value is None else {"val_accuracy": value}
    return trial_row(id=f"s-{number:04d}", number=number, point=point, params={"batch": point}, state=state, metrics=metrics)


def test_points_are_ranked_by_their_mean_and_tell_the_spread() -> None:
    rows = [
        row(0, 0, "succeeded", 0.5),
        row(1, 0, "succeeded", 0.7),
        row(2, 1, "succeeded", 0.9),
        row(3, 1, "failed", 0.1),
        row(4, 2, "queued", None),
    ]
    ranked = point_rows(rows, "val_accuracy", "max")
    assert [(point.point, point.mean, point.count) for point in ranked] == [
        (1, 0.9, 1),
        (0, pytest.approx(0.6), 2),
        (2, None, 0),
    ]
    assert ranked[1].spread == pytest.approx(0.02**0.5)
    assert ranked[0].spread is None
    assert [point.point for point in point_rows(rows, "val_accuracy", "min")] == [0, 1, 2]


def test_the_best_is_a_point_that_came_to_its_end_whole() -> None:
    rows = [row(0, 0, "succeeded", 0.5), row(1, 0, "succeeded", 0.7), row(2, 1, "stopped", 0.9)]
    best = best_of(rows, "val_accuracy", "max")
    assert best is not None
    assert (best.point, best.trial, best.metric) == (0, "s-0001", "val_accuracy")
    unended = best_of(rows[2:], "val_accuracy", "max")
    assert unended is not None
    assert unended.point == 1
    assert best_of([row(0, 0, "failed", 0.5)], "val_accuracy", "max") is None


@pytest.mark.parametrize(
    ("total", "budget", "left"),
    [(8, None, 120.0), (8, 100.0, 60.0), (8, 30.0, 0.0), (None, 100.0, 60.0), (None, None, None), (2, None, 0.0)],
)
def test_time_left_counts_the_steps_under_way_and_ends_with_the_budget(
    total: int | None, budget: float | None, left: float | None
) -> None:
    rows = [
        trial_row(state="stopped", step=1, steps=10),
        trial_row(state="running", step=5, steps=10),
        trial_row(state="running", step=5, steps=None),
        trial_row(state="running", step=20, steps=40),
    ]
    assert seconds_left(rows, total, 40.0, budget) == left


def test_nothing_is_known_of_the_time_left_before_a_step_is_done() -> None:
    assert seconds_left([trial_row(state="queued")], 8, 40.0, None) is None


def test_the_table_has_the_best_first_and_then_the_newest() -> None:
    rows = [row(0, 0, "succeeded", 0.5), row(1, 1, "succeeded", 0.7), row(2, 2, "running", None), row(3, 3, "queued", None)]
    assert [each.id for each in table(rows, "val_accuracy", "max")] == ["s-0001", "s-0000", "s-0003", "s-0002"]
    assert len(table(rows, "val_accuracy", "max", most=2)) == 2
    assert counts_of(rows) == {"succeeded": 2, "running": 1, "queued": 1}


def test_rows_tell_how_trials_stand(local_store: Store) -> None:
    trials = [Trial(id=f"s-{n:04d}", number=n, point=n, base="b", params={}, seed=0) for n in range(5)]
    records = [RunRecord(local_store, trial.id) for trial in trials]
    attempts = [{"number": 1, "started": 1.0, "finished": None, "reason": None}]
    state = {"attempts": attempts, "error": None, "started": 1.0}
    for record in records:
        record.claim(SPEC, Origin(sweep="s"))
    records[1].write_state(
        StateDocument.model_validate(
            {**state, "state": "succeeded", "metrics": {"loss": 0.1}, "position": {"epoch": 2, "epochs": 2}}
        )
    )
    trials[2] = trials[2].changed(stopped=Stopped(by="asha"))
    records[2].write_state(StateDocument.model_validate({**state, "state": "cancelled", "metrics": {}}))
    records[3].write_state(StateDocument.model_validate({**state, "state": "running", "metrics": {}}))
    records[3].write_progress(ProgressDocument(epoch=1, epochs=2, metrics={"loss": 0.5}))
    records[4].write_state(StateDocument.model_validate({**state, "state": "running", "metrics": {}}))
    assert Lease(records[4]).acquire()
    rows = trial_rows(local_store, trials)
    assert [each.state for each in rows] == ["queued", "succeeded", "stopped", "lost", "running"]
    assert [each.epoch for each in rows] == [None, 2, None, 1, None]
    assert [each.metrics for each in rows] == [{}, {"loss": 0.1}, {}, {"loss": 0.5}, {}]
    assert rows[1].attempts == (Attempt(workers=(), **attempts[0]),)


def test_a_sweeps_document_has_trials_and_best(local_store: Store) -> None:
    record = RunRecord(local_store, "s")
    trial = {"id": "s-0000", "number": 0, "point": 0, "base": "b", "params": {"batch": 8}, "seed": 0}
    record.write_trials([Trial(**trial)])
    RunRecord(local_store, "s-0000").write_state(
        StateDocument(state="succeeded", attempts=[], metrics={"val_loss": 0.2}, finished=time.time())
    )
    document = results_of(record, "val_loss", "min")
    assert document.trials[0].metrics == {"val_loss": 0.2}
    assert document.best.params == {"batch": 8}


def test_a_trial_that_waits_for_its_turn_is_paused_and_the_table_counts_its_take_overs(local_store: Store) -> None:
    trial = Trial(id="s-0000", number=0, point=0, base="b", params={}, seed=0, pauses=True)
    RunRecord(local_store, "s-0000").claim(SPEC, Origin(sweep="s"))
    state = {"state": "cancelled", "attempts": [], "metrics": {"val_accuracy": 0.5}}
    RunRecord(local_store, "s-0000").write_state(StateDocument(**state))
    (found,) = trial_rows(local_store, [trial])
    assert (found.state, found.metrics) == ("paused", {"val_accuracy": 0.5})
    (ended,) = trial_rows(local_store, [trial.changed(pauses=False, mutations=[Mutation(step=3, donor="s-0001", params={})])])
    assert ended.state == "cancelled"
    assert [each.mutations for each in table([found, ended], "val_accuracy", "max")] == [0, 1]
