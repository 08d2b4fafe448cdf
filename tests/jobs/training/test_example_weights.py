"""Weights of classes and of examples: the training is that of Keras' fit with the same weights."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.training.example_weights import ExampleWeights, check_weights, make_weights
from service.errors import BadData
from service.specs.train import TrainSpec

MakeSpec = Callable[..., TrainSpec]
STEPS, BATCH, WIDTH, CLASSES = 6, 8, 5, 3
RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.standard_normal((STEPS, BATCH, WIDTH)).astype(np.float32)
LABELS = RANDOM.integers(0, CLASSES, (STEPS, BATCH)).astype(np.int32)
COLUMN = RANDOM.random((STEPS, BATCH)).astype(np.float32) * 3


def net() -> keras.Model:
    return keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(7, "tanh"), keras.layers.Dense(CLASSES)])


@pytest.mark.parametrize(
    ("weights", "given"),
    [
        (ExampleWeights(np.array([0.5, 2.0, 1.0], np.float32)), lambda step: {"class_weight": {0: 0.5, 1: 2.0}}),
        (ExampleWeights(column="w"), lambda step: {"sample_weight": COLUMN[step]}),
        (
            ExampleWeights(np.array([0.5, 2.0, 1.0], np.float32), "w"),
            lambda step: {"sample_weight": COLUMN[step] * np.array([0.5, 2.0, 1.0], np.float32)[LABELS[step]]},
        ),
    ],
    ids=["classes", "examples", "both"],
)
def test_steps_are_those_of_keras(
    make_spec: MakeSpec, make_replica: Callable[..., Any], weights: ExampleWeights, given: Callable[[int], dict[str, Any]]
) -> None:
    replica = make_replica(make_spec(optimizer={"name": "adam", "learning_rate": 0.05}), net, weights=weights)
    theirs = keras.models.clone_model(replica.model)
    theirs.set_weights(replica.model.get_weights())
    theirs.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    sums = replica.train({"x": FEATURES, "w": COLUMN}, LABELS, np.zeros(0, np.float32)).sums
    losses = [float(theirs.train_on_batch(FEATURES[step], LABELS[step], **given(step))) for step in range(STEPS)]
    np.testing.assert_allclose(sums[:, 0] / BATCH, losses, rtol=1e-5)
    for ours, other in zip(replica.model.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-4, atol=1e-6)


def test_evaluations_weigh_nothing(make_spec: MakeSpec, make_replica: Callable[..., Any]) -> None:
    plain = make_replica(make_spec(), net)
    weighted = make_replica(make_spec(), net, weights=ExampleWeights(np.array([0.0, 9.0, 1.0], np.float32), "w"))
    ones = np.ones_like(COLUMN)
    wanted = plain.evaluate({"x": FEATURES}, LABELS, ones)
    # Without the column, which evaluations do not need; and with it, as a stream has it.
    assert (weighted.evaluate({"x": FEATURES}, LABELS, ones) == wanted).all()
    assert (weighted.evaluate({"x": FEATURES, "w": COLUMN}, LABELS, ones) == wanted).all()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_balanced_classes_weigh_alike_and_all_examples_as_many_as_they_are(labels: list[int]) -> None:
    spec = TrainSpec.model_validate({"model": "dense", "dataset": "digits", "epochs": 1, "class_weight": "balanced"})
    weights = make_weights(spec, np.array(labels, np.int32), "abcde").classes
    assert weights is not None
    counts = Counter(labels)
    for label, count in counts.items():
        assert weights[label] * count == pytest.approx(len(labels) / len(counts))
    assert sum(weights[label] for label in labels) == pytest.approx(len(labels))


def test_classes_are_found_by_name_and_else_by_number(make_spec: MakeSpec) -> None:
    spec = make_spec(class_weight={"cat": 2, 1: 3, 2: 0.5})
    weights = make_weights(spec, np.zeros(1, np.int32), ("1", "cat", "dog")).classes
    assert weights is not None
    assert weights.tolist() == [3.0, 2.0, 0.5]


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
def test_a_weight_that_is_none_is_bad_data(wrong: float) -> None:
    check_weights("w", np.array([0.0, 1.0]), np.arange(2))
    with pytest.raises(BadData, match=r"Example 7 of the training split has the weight (-1.0|nan|inf) in 'w', but a weight is"):
        check_weights("w", np.array([1.0, wrong]), np.array([4, 7]))
