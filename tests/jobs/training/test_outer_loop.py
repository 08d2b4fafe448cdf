"""What is due between two calls of the compiled steps: evaluations, checkpoints, stops."""

from typing import Any

import numpy as np
import pytest
from support.training_loops import (
    COUNT,
    LENGTH,
    KeepingRecorder,
    MakeReplica,
    MakeSpec,
    busy,
    plain,
    result,
    run,
)

from jobs.training.batches import split_validation
from jobs.training.outer_loop import judged, latest_metrics
from service.errors import BadLoss


def test_an_evaluation_that_is_no_number_ends_the_run_and_names_step_and_metric(
    make_spec: MakeSpec, make_replica: MakeReplica
) -> None:
    spec = make_spec(**LENGTH)
    held_out = split_validation(spec.seed, COUNT, spec.evaluate.validation)[1]
    kept = KeepingRecorder()
    with pytest.raises(BadLoss, match=r"at step 5 \(epoch 1\) found val_loss nan, though .* finite in the validation examples\."):
        run(spec, make_replica(spec, plain), kept, bad=int(held_out[0]))
    assert [row["step"] for row in kept.rows] == [4]
    assert kept.snapshots == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["loss", "accuracy"])
def test_no_value_of_an_evaluation_may_be_no_number(name: str, value: float) -> None:
    class Evaluates:
        def evaluate(self) -> dict[str, float]:
            return {"loss": 1.0, "accuracy": 0.5, name: value}

    with pytest.raises(BadLoss, match=rf"at step 40 \(epoch 3\) found test_{name} {value}, .* in the test examples"):
        judged(Evaluates(), "test", 3, 40)


@pytest.mark.parametrize(("stop_at", "scored"), [(3, False), (5, True), (10, True), (11, False)])
def test_a_request_to_stop_saves_the_step_and_the_run_resumes_from_it(
    make_spec: MakeSpec, make_replica: MakeReplica, stop_at: int, scored: bool
) -> None:
    spec = make_spec(**LENGTH)
    _, whole = run(spec, make_replica(spec, busy), KeepingRecorder())
    kept = KeepingRecorder(stop_at)
    outcome, loop = run(spec, make_replica(spec, busy), kept, most=1)
    assert outcome == "cancelled"
    assert loop.outer.state.step == stop_at
    # One snapshot of each step: a second one would lose the score of the evaluation.
    assert [snapshot.step for snapshot in kept.snapshots] == sorted({step for step in (5, 10) if step <= stop_at} | {stop_at})
    assert (kept.snapshots[-1].score is not None) == scored
    outcome, resumed = run(spec, make_replica(spec, busy), KeepingRecorder(), kept.snapshots[-1])
    assert outcome == "succeeded"
    assert result(resumed) == result(whole)


def test_a_request_to_stop_at_the_last_step_comes_too_late(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    spec = make_spec(steps=5)
    outcome, loop = run(spec, make_replica(spec, plain), KeepingRecorder(stop_at=5), most=1)
    assert (outcome, loop.outer.state.step) == ("succeeded", 5)


@pytest.mark.parametrize(
    "keys",
    [
        {"early_stopping": {"patience": 2, "min_delta": 100.0}},
        {"callbacks": [{"name": "EarlyStopping", "patience": 2, "min_delta": 100.0}]},
    ],
    ids=["of Delayline", "of Keras"],
)
def test_early_stopping_ends_the_run_saves_it_and_stays_ended(
    make_spec: MakeSpec, make_replica: MakeReplica, keys: dict[str, Any]
) -> None:
    spec = make_spec(epochs=9, checkpoint={"every_epochs": 2}, **keys)
    replica, kept = make_replica(spec, busy), KeepingRecorder()
    outcome, loop = run(spec, replica, kept)
    assert outcome == "succeeded"
    assert loop.outer.state.step == 15
    assert [snapshot.step for snapshot in kept.snapshots] == [10, 15]
    assert ("early stop" in kept.events) == ("early_stopping" in keys)
    wanted = result(loop)
    for snapshot in kept.snapshots:
        again = KeepingRecorder()
        outcome, loop = run(spec, replica, again, snapshot)
        assert outcome == "succeeded"
        assert result(loop) == wanted
        assert len(again.snapshots) == (15 - snapshot.step) // 5


def test_a_checkpoints_score_is_that_of_its_evaluation(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    spec = make_spec(**LENGTH, checkpoint={"every_steps": 1})
    kept = KeepingRecorder()
    run(spec, make_replica(spec, plain), kept)
    scores = {snapshot.step: snapshot.score for snapshot in kept.snapshots}
    assert {step for step, score in scores.items() if score is not None} == {5, 10, 13}
    assert all(scores[row["step"]] == row["val_loss"] for row in kept.rows if "val_loss" in row)


def test_a_new_best_is_saved_if_the_run_ends_with_the_best(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    falling = {"name": "piecewise", "boundaries": [5], "values": [0.1, 20.0]}
    keys = {**LENGTH, "checkpoint": {"every_steps": 7}, "optimizer": {"name": "sgd", "learning_rate": falling}}
    for restore_best, wanted in ((True, [5, 7, 13]), (False, [7, 13])):
        spec = make_spec(**keys, early_stopping={"restore_best": restore_best, "patience": 9})
        kept = KeepingRecorder()
        run(spec, make_replica(spec, plain), kept)
        assert [snapshot.step for snapshot in kept.snapshots] == wanted
        assert kept.snapshots[0].score == (kept.rows[1]["val_loss"] if restore_best else None)


def test_the_newest_value_of_each_metric_is_the_latest() -> None:
    rows = [{"step": 1, "loss": 3.0, "val_loss": 2.0, "time": 1.0}, {"step": 2, "loss": 1.0, "time": 2.0}]
    assert latest_metrics(rows) == {"loss": 1.0, "val_loss": 2.0}
    assert latest_metrics([]) == {}
