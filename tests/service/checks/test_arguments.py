"""Arguments of optimizers, schedules and callbacks that the plan refuses, in one sentence with the remedy."""

from typing import Any

import pytest

from service.checks.arguments import check_arguments
from service.errors import InvalidInput
from service.specs.train import TrainSpec

STOP = "EarlyStopping"


def spec(**keys: Any) -> TrainSpec:
    return TrainSpec.model_validate({"model": "cnn", "dataset": "digits", "epochs": 1, **keys})


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (
            {"name": "adam", "lr": 0.1},
            "The optimizer 'adam' does not take 'lr'; use learning_rate: it takes learning_rate, beta_1",
        ),
        (
            {"name": "sgd", "decay": 0.1},
            "does not take 'decay'; use weight_decay for the weights, or for the rate learning_rate=",
        ),
        ({"name": "Adam-W", "beta1": 0.9}, r"The optimizer 'Adam-W' does not take 'beta1' \(did you mean 'beta_1'\?\)"),
        ({"name": "sgd", "momentum": 1.5}, "optimizer.momentum is 1.5, but it must be a number from 0 to 1"),
        ({"name": "adam", "epsilon": "small"}, "optimizer.epsilon is the text 'small', but it must be a number"),
        ({"name": "adam", "clipnorm": 1, "clipvalue": 1}, "takes one limit of its gradients, not clipnorm and clipvalue"),
        ({"name": "multioptimizer"}, "needs optimizer_map"),
        ({"name": "sgd", "learning_rate": {"name": "cosine"}}, "The schedule 'cosine' needs initial"),
        ({"name": "sgd", "learning_rate": {"name": "cosine", "initial": -1}}, "optimizer.learning_rate.initial is -1, but"),
        (
            {"name": "sgd", "learning_rate": {"name": "cosine", "initial": 1, "alpha": 0}},
            "The schedule 'cosine' does not take 'alpha'",
        ),
        (
            {"name": "sgd", "learning_rate": {"name": "piecewise", "boundaries": [1, 2], "values": [0.1, 0.2]}},
            "2 boundaries and 2 values",
        ),
    ],
)
def test_arguments_of_an_optimizer(optimizer: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_arguments(spec(optimizer=optimizer))


@pytest.mark.parametrize(
    ("callback", "words"),
    [
        ({"name": STOP, "restore_best_weights": True}, "cannot restore the best weights, .*: use early_stopping.restore_best"),
        ({"name": STOP, "patient": 3}, r"The callback EarlyStopping does not take 'patient' \(did you mean 'patience'\?\)"),
        ({"name": STOP, "mode": "lowest"}, "has the mode 'lowest': use auto or min or max"),
        # Keras takes it and leaves it out.
        ({"name": "ReduceLROnPlateau", "epsilon": 0.1}, "does not take 'epsilon'"),
        (
            {"name": "ReduceLROnPlateau", "factor": 2},
            "callbacks ReduceLROnPlateau factor is 2, but it must be a number above 0, below 1",
        ),
        ({"name": "CSVLogger"}, "The callback CSVLogger needs filename"),
    ],
)
def test_arguments_of_a_callback(callback: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_arguments(spec(callbacks=[callback]))


def test_what_fits_is_taken() -> None:
    rate = {"name": "cosine", "initial": 0.1, "warmup_steps": 3}
    callbacks = [
        {"name": STOP, "patience": 2, "verbose": True},
        {"name": "my_code:make", "anything": 1},
        {"name": "TerminateOnNaN"},
    ]
    check_arguments(spec(optimizer={"name": "sgd", "momentum": 0, "learning_rate": rate, "clipnorm": None}, callbacks=callbacks))
    check_arguments(spec(optimizer={"name": "adam", "learning_rate": {"expression": "0.3 / batch"}, "epsilon": 1e-7}))
