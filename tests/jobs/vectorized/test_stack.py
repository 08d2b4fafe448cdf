"""Members of a stack against the same runs apart: the same sums, weights and optimizer after 20 steps, to 1e-5."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from jobs.models.registry import build_model
from jobs.vectorized.stack import Stack
from service.specs.train import TrainSpec

STEPS, BATCH = 20, 4
BITS = {"dataset": "bits", "dataset_params": {"delay": 3}, "task": "bit-memory"}
ADAM = {"name": "adam", "learning_rate": {"name": "cosine", "initial": 0.01}, "global_clipnorm": 0.5}
SGD = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "clipnorm": 0.1}

TARGET = {"name": "target", "ridge": 0.01, "target_std": 0.7}

CASES: dict[str, dict[str, Any]] = {
    "dense-dropout": {"model": "dense", "model_params": {"hidden": [9, 7], "dropout": 0.4}, "optimizer": SGD},
    "rnn": {"model": "simple-rnn", "model_params": {"units": [6, 5]}, **BITS, "optimizer": ADAM},
    "rnn-last": {"model": "simple-rnn", "model_params": {"units": 6, "activation": "relu", "dropout": 0.2}, "optimizer": SGD},
    "elman": {"model": "elman", "model_params": {"units": [6, 4], "hidden": [5], "dropout": 0.2}, **BITS, "optimizer": SGD},
    "lstm": {"model": "lstm", "model_params": {"units": [6, 5], "start": "chrono"}, **BITS, "optimizer": ADAM},
    "gru": {"model": "gru", "model_params": {"units": [6, 5]}, **BITS, "optimizer": SGD},
    "target-dense": {
        "model": "dense",
        "model_params": {"hidden": [9, 7], "dropout": 0.4},
        "space": {**TARGET, "initial": "weights"},
        "optimizer": SGD,
    },
    "target-rnn": {
        "model": "simple-rnn",
        "model_params": {"units": [6, 5]},
        **BITS,
        "space": {**TARGET, "ridge": 0.1, "realisation_length": 8},
        "optimizer": SGD,
    },
    "target-rnn-ocu": {
        "model": "simple-rnn",
        "model_params": {"units": 6},
        **BITS,
        "space": {**TARGET, "cascade": "ocu"},
        "optimizer": {**ADAM, "learning_rate": 0.001},
    },
    "target-rnn-last": {
        "model": "simple-rnn",
        "model_params": {"units": [6, 5]},
        "space": TARGET,
        "optimizer": SGD,
    },
    "adamw": {
        "model": "dense",
        "model_params": {"hidden": [5]},
        "optimizer": {"name": "adamw", "weight_decay": 0.01, "amsgrad": True},
    },
    "rmsprop": {
        "model": "dense",
        "model_params": {"hidden": [5]},
        "optimizer": {"name": "rmsprop", "learning_rate": 0.003, "momentum": 0.5, "centered": True, "clipvalue": 0.01},
    },
    "adagrad": {"model": "dense", "model_params": {"hidden": [5]}, "optimizer": {"name": "adagrad", "learning_rate": 0.1}},
    "adadelta": {"model": "dense", "model_params": {"hidden": [5]}, "optimizer": {"name": "adadelta", "learning_rate": 1.0}},
    "adamax": {"model": "dense", "model_params": {"hidden": [5]}, "optimizer": {"name": "adamax", "weight_decay": 0.1}},
    "lion": {"model": "dense", "model_params": {"hidden": [5]}, "optimizer": {"name": "lion", "learning_rate": 0.001}},
}


def scaled_rate(optimizer: dict[str, Any], factor: float) -> dict[str, Any]:
    """The same optimizer with another learning rate, clipping and decay."""
    rate = optimizer.get("learning_rate", 0.001)
    other = {**rate, "initial": rate["initial"] * factor} if isinstance(rate, dict) else rate * factor
    varied = ("clipnorm", "global_clipnorm", "clipvalue", "weight_decay")
    return {**optimizer, "learning_rate": other, **{name: optimizer[name] * factor for name in varied if name in optimizer}}


def members_of(case: dict[str, Any], make_spec: Callable[..., TrainSpec]) -> list[TrainSpec]:
    return [
        make_spec(
            **{
                **case,
                **scaled_space(case, factor),
                "seed": seed,
                "optimizer": scaled_rate(case["optimizer"], factor),
                "batch": BATCH,
            }
        )
        for seed, factor in ((0, 1.0), (7, 0.4))
    ]


def scaled_space(case: dict[str, Any], factor: float) -> dict[str, Any]:
    """The same target space with other numbers, if it is one."""
    if "space" not in case:
        return {}
    return {"space": {**case["space"], **{name: case["space"][name] * factor for name in ("ridge", "target_std")}}}


def examples_of(spec: TrainSpec) -> tuple[Any, Any, tuple[int, ...], int]:
    """Features and labels [steps, batch, …] of a member's own, an example's shape, and the number of logits."""
    draws = np.random.default_rng(spec.seed)
    if spec.task == "bit-memory":
        bits, labels = draws.integers(0, 2, (STEPS, BATCH, 9, 1)), draws.integers(0, 2, (STEPS, BATCH, 9))
        labels[:, :, :3] = -1
        return (2 * bits - 1).astype(np.float32), labels.astype(np.int32), (9, 1), 1
    pictures = draws.integers(0, 256, (STEPS, BATCH, 4, 3, 1), dtype=np.uint8)
    return pictures, draws.integers(0, 5, (STEPS, BATCH)).astype(np.int32), (4, 3, 1), 5


FAST = ("dense-dropout", "rnn", "gru", "target-dense", "adamw")
"""A case of each kind of layer, space and optimizer; .ci/run has all, each of which compiles three programs."""


@pytest.mark.parametrize("name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CASES])
def test_members_are_the_runs_apart(name: str, make_spec: Any, make_replica: Any) -> None:
    specs = members_of(CASES[name], make_spec)
    apart, held, spaces, given = [], [], [], []
    for spec in specs:
        features, labels, shape, classes = examples_of(spec)
        replica = make_replica(
            spec,
            lambda spec=spec, shape=shape, classes=classes: build_model(spec, shape, classes, None, spec.task == "bit-memory"),
            255.0,
            realisation=realisation_of(spec, features),
        )
        spaces.append(replica.space)
        held.append(replica.copies())
        sums = replica.train({"x": features}, labels, np.zeros(1, np.float32)).sums
        evaluated = replica.evaluate({"x": features[:1]}, labels[:1], np.ones((1, BATCH), np.float32))
        apart.append((sums, replica.copies(), evaluated))
        given.append((features, labels))
    like = make_replica(
        specs[0],
        lambda: build_model(specs[0], shape, classes, None, specs[0].task == "bit-memory"),
        255.0,
        realisation=realisation_of(specs[0], given[0][0]),
    )
    stack = Stack(specs, like, [like.space, *spaces[1:]], total_steps=100)
    stack.load([tuple(rename(each, own) for each, own in zip(copies, like.copies(), strict=True)) for copies in held])
    features, labels = (np.stack([each[part] for each in given], axis=1) for part in (0, 1))
    sums = np.concatenate([stack.train({"x": features[a:b]}, labels[a:b]) for a, b in ((0, 7), (7, 20))])
    evaluated = stack.evaluate({"x": features[0]}, labels[0], np.ones((2, BATCH), np.float32))
    for member, (own_sums, copies, own_evaluated) in enumerate(apart):
        np.testing.assert_allclose(sums[:, member], own_sums, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(evaluated[member], own_evaluated, rtol=1e-5, atol=1e-5)
        for ours, theirs in zip(stack.held(member), copies, strict=True):
            close(ours, theirs)


def realisation_of(spec: TrainSpec, features: Any) -> Any:
    """The first examples as the model takes them, in target space."""
    return None if spec.space.name == "weight" else np.concatenate(features[:2]).astype(np.float32) / np.float32(255)


def rename(tensors: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """The tensors under the names that they have in the stack's replica: Keras numbers the layers of each model anew."""
    return dict(zip(sorted(like), (tensors[key] for key in sorted(tensors)), strict=True))


def close(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert len(ours) == len(theirs)
    for mine, other in zip(sorted(ours), sorted(theirs), strict=True):
        assert ours[mine].dtype == theirs[other].dtype
        np.testing.assert_allclose(ours[mine], theirs[other], rtol=1e-4, atol=1e-5, err_msg=mine)
