"""Evaluations and checkpoints of an optimizer that keeps averages of its variables."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from support.training_loops import (
    CLASSES,
    COUNT,
    LENGTH,
    WIDTH,
    KeepingRecorder,
    MakeReplica,
    MakeSpec,
    arrays,
    plain,
    result,
    run,
)

from jobs.training.batches import split_validation
from jobs.training.variables import copy_variables


@pytest.mark.parametrize(
    "keys",
    [
        {"ema_momentum": 0.5},
        {"ema_momentum": 0.5, "ema_overwrite_frequency": 3},
        {"ema_momentum": 0.9, "gradient_accumulation_steps": 2},
        {"ema_momentum": 0.9, "precision": "float16"},
    ],
    ids=str,
)
def test_evaluations_use_the_averages_and_the_training_continues_from_the_weights(
    make_spec: MakeSpec, make_replica: MakeReplica, keys: dict[str, Any]
) -> None:
    precision = {name: value for name, value in keys.items() if name == "precision"}
    arguments = {"name": "sgd", "learning_rate": 0.5, **{name: value for name, value in keys.items() if name not in precision}}
    averaging = make_spec(**LENGTH, **precision, checkpoint={"every_steps": 1}, optimizer={**arguments, "use_ema": True})
    replica, kept = make_replica(averaging, plain), KeepingRecorder()
    _, loop = run(averaging, replica, kept)
    features, labels = arrays()
    held_out = split_validation(0, COUNT, averaging.evaluate.validation)[1]
    for snapshot in kept.snapshots:
        averages = [array for name, array in sorted(snapshot.optimizer.items()) if name.endswith("average")]
        assert [array.tobytes() for array in averages] == [snapshot.averaged[name].tobytes() for name in list(snapshot.model)[:2]]
        for row in (row for row in kept.rows if row["step"] == snapshot.step and "val_loss" in row):
            logits = features["x"][held_out] @ averages[0] + averages[1]
            losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(held_out)), labels[held_out]]
            assert row["val_loss"] == pytest.approx(losses.mean(), rel=1e-4)
    if "ema_overwrite_frequency" not in keys:
        # Keras' own numbers without averages are those that the training continues from.
        alone, weights = (
            make_spec(**LENGTH, **precision, optimizer={k: v for k, v in arguments.items() if k != "ema_momentum"}),
            KeepingRecorder(),
        )
        _, unaveraged = run(alone, make_replica(alone, plain), weights)
        assert result(loop)[0][:2] == result(unaveraged)[0][:2]
        assert [row["val_loss"] for row in kept.rows if "val_loss" in row] != [
            row["val_loss"] for row in weights.rows if "val_loss" in row
        ]


def test_averages_of_targets_are_what_the_weights_follow_from(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    def build() -> keras.Model:
        return keras.Sequential([keras.Input((WIDTH,)), layers.Dense(6, "tanh"), layers.Dense(CLASSES)])

    arguments = {"name": "sgd", "learning_rate": 0.5, "use_ema": True, "ema_momentum": 0.5}
    spec = make_spec(**LENGTH, space={"name": "target", "ridge": 0.01}, checkpoint={"every_steps": 13}, optimizer=arguments)
    replica, kept = make_replica(spec, build, realisation=arrays()[0]["x"][:10]), KeepingRecorder()
    run(spec, replica, kept)
    (snapshot,) = kept.snapshots
    targets = [array for name, array in sorted(snapshot.optimizer.items()) if name.endswith("average")]
    for variable, value in zip(replica.space.variables, targets, strict=True):
        variable.assign(value)
    replica.space.realise()
    wanted = copy_variables(replica.model.variables)
    for got, value in zip(snapshot.averaged.values(), wanted.values(), strict=False):
        np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-6)


def test_before_the_first_step_there_are_no_averages(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    # Each step overflows float16, so that none is done.
    spec = make_spec(**LENGTH, precision="float16", optimizer={"name": "sgd", "use_ema": True})
    replica, kept = make_replica(spec, plain), KeepingRecorder()
    replica.optimizer.dynamic_scale.assign(np.inf)
    run(spec, replica, kept)
    assert int(np.asarray(replica.optimizer.iterations.value)) == 0
    assert kept.snapshots[-1].averaged == {}
    assert kept.rows[-1]["val_loss"] == kept.rows[1]["val_loss"]
