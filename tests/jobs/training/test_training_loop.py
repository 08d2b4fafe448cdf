"""The loop on random data: the same run however it is cut, stopped and restored."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from support.training_loops import (
    CLASSES,
    COUNT,
    LENGTH,
    METRICS,
    WIDTH,
    KeepingRecorder,
    MakeReplica,
    MakeSpec,
    arrays,
    busy,
    plain,
    result,
    run,
)

from jobs.artifacts.checkpoints import CheckpointStore
from jobs.training.batches import BatchPlan
from service.errors import BadLoss
from service.records.run_record import RunRecord
from service.storage.local import LocalStore

PLATEAU = {"name": "ReduceLROnPlateau", "patience": 1, "factor": 0.5, "min_delta": 10.0, "verbose": 0}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"optimizer": {"name": "sgd", "learning_rate": {"name": "one-cycle", "peak": 0.5}, "momentum": 0.9}},
        {"callbacks": [PLATEAU]},
        {"evaluate": {"validation": 0}, "batch": 8},
        {"optimizer": {"name": "sgd", "learning_rate": 0.5, "use_ema": True, "ema_momentum": 0.8}, "precision": "float16"},
    ],
    ids=str,
)
def test_a_run_that_is_restored_at_any_step_ends_bit_for_bit_as_one_that_never_stopped(
    make_spec: MakeSpec, make_replica: MakeReplica, tmp_path: Path, keys: dict[str, Any]
) -> None:
    spec = make_spec(**LENGTH, checkpoint={"every_steps": 1, "keep_last": 100}, **keys)
    outcome, whole = run(make_spec(**LENGTH, **keys), make_replica(spec, busy), KeepingRecorder())
    assert outcome == "succeeded"
    wanted = result(whole)

    replica, kept = make_replica(spec, busy), KeepingRecorder()
    _, saving = run(spec, replica, kept)
    assert result(saving) == wanted
    assert [snapshot.step for snapshot in kept.snapshots] == list(range(1, 14))
    checkpoints = CheckpointStore(RunRecord(LocalStore(tmp_path / "store"), "a-run"), spec.checkpoint, "0001")
    for snapshot in kept.snapshots:
        checkpoints.save(snapshot)
    for step in range(1, 14):
        again = KeepingRecorder()
        outcome, loop = run(spec, replica, again, checkpoints.load(step))
        assert outcome == "succeeded"
        assert result(loop) == wanted, f"restored at step {step}"
        assert [snapshot.step for snapshot in again.snapshots] == list(range(step + 1, 14))


def test_a_run_in_target_space_is_restored_bit_for_bit(make_spec: MakeSpec, make_replica: MakeReplica, tmp_path: Path) -> None:
    def build() -> keras.Model:
        return keras.Sequential([keras.Input((WIDTH,)), layers.Dense(6, "tanh"), layers.Dropout(0.3), layers.Dense(CLASSES)])

    spec = make_spec(**LENGTH, checkpoint={"every_steps": 5, "keep_last": 100}, space={"name": "target", "ridge": 0.01})
    realisation = arrays()[0]["x"][:10]
    kept = KeepingRecorder()
    _, whole = run(spec, make_replica(spec, build, realisation=realisation), kept)
    checkpoints = CheckpointStore(RunRecord(LocalStore(tmp_path / "store"), "a-run"), spec.checkpoint, "0001")
    checkpoints.save(kept.snapshots[0])
    other = make_replica(spec.model_copy(update={"seed": 77}), build, realisation=realisation)
    _, loop = run(spec, other, KeepingRecorder(), checkpoints.load(5))
    assert result(loop) == result(whole)


def test_another_process_resumes_to_the_same_end(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    spec = make_spec(**LENGTH, checkpoint={"every_steps": 6})
    kept = KeepingRecorder()
    _, whole = run(spec, make_replica(spec, busy), kept)
    fresh = make_replica(spec.model_copy(update={"seed": 77}), busy)
    _, loop = run(spec, fresh, KeepingRecorder(), kept.snapshots[0])
    assert result(loop) == result(whole)


@pytest.mark.parametrize("most", [1, 2, 3, 256])
def test_the_number_of_steps_a_call_changes_nothing(make_spec: MakeSpec, make_replica: MakeReplica, most: int) -> None:
    spec = make_spec(**LENGTH)
    _, reference = run(spec, make_replica(spec, busy), KeepingRecorder())
    _, loop = run(spec, make_replica(spec, busy), KeepingRecorder(), most=most)
    assert result(loop) == result(reference)


def test_rows_are_means_over_the_steps_since_the_row_before(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    rows = {}
    for every in (1, 4):
        spec = make_spec(steps=13, log_every=every)
        kept = KeepingRecorder()
        run(spec, make_replica(spec, plain), kept)
        rows[every] = kept.rows
    assert [row["step"] for row in rows[1]] == list(range(1, 14))
    assert [row["step"] for row in rows[4]] == [4, 5, 8, 10, 12, 13]
    assert [row["epoch"] for row in rows[4]] == [1, 1, 2, 2, 3, 3]
    before = 0
    for row in rows[4]:
        single = [one for one in rows[1] if before < one["step"] <= row["step"]]
        for name in ("loss", "accuracy"):
            assert row[name] == pytest.approx(np.mean([one[name] for one in single]), rel=1e-6)
        before = row["step"]
    assert [row["step"] for row in rows[4] if "val_loss" in row] == [5, 10, 13]


def test_a_row_says_the_learning_rate_of_its_step(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    schedule = {"name": "piecewise", "boundaries": [4, 8], "values": [0.5, 0.25, 0.125]}
    spec = make_spec(steps=12, log_every=1, optimizer={"name": "sgd", "learning_rate": schedule})
    kept = KeepingRecorder()
    run(spec, make_replica(spec, plain), kept)
    assert {row["learning_rate"] for row in kept.rows} == {0.5, 0.25, 0.125}


@pytest.mark.parametrize("most", [1, 3, 256])
def test_a_loss_that_is_no_number_ends_the_run_and_names_the_step(
    make_spec: MakeSpec, make_replica: MakeReplica, most: int
) -> None:
    spec = make_spec(**LENGTH, evaluate={"validation": 0})
    plan = BatchPlan(np.arange(COUNT), 8, 0)
    bad = int(plan.indices(2, 1)[0, 0])
    kept = KeepingRecorder()
    with pytest.raises(BadLoss, match="The loss became nan at step 3: use a smaller learning rate"):
        run(spec, make_replica(spec, plain), kept, most=most, bad=bad)
    assert kept.snapshots == []
    assert kept.rows == []


def test_the_loop_reports_its_progress_after_each_call(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    spec = make_spec(**LENGTH)
    kept = KeepingRecorder()
    run(spec, make_replica(spec, plain), kept, most=1)
    assert [update["step"] for update in kept.updates] == list(range(1, 14))
    assert set(kept.updates[-1]["metrics"]) == set(METRICS)
    assert all(update["examples_per_second"] >= 0 for update in kept.updates)
    assert kept.updates[-1]["eta_seconds"] in (None, 0.0)
