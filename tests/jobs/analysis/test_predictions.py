"""Predictions of the test split, against NumPy."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.analysis import predictions
from jobs.analysis.predictions import Predictions, class_rows, confusion, evenly_spaced, mistakes, predict, softmax, surest_right
from jobs.replica import Replica
from service.specs import TrainSpec

CLASSES = 4


def some(count: int = 60, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count).astype(np.int32)
    probabilities = softmax(3 * random.standard_normal((count, CLASSES)).astype(np.float32))
    return Predictions(np.arange(count) * 2, labels, probabilities)


@given(st.integers(1, 300), st.integers(1, 300))
def test_rows_are_evenly_spaced(count: int, wanted: int) -> None:
    rows = evenly_spaced(count, min(wanted, count))
    assert len(set(rows.tolist())) == min(wanted, count)
    assert rows.min() >= 0
    assert rows.max() < count
    if len(rows) > 1:
        assert np.ptp(np.diff(rows)) <= 1


def test_the_matrix_counts_pairs_of_true_and_predicted_classes() -> None:
    found = some()
    matrix = confusion(found, CLASSES)
    for row in range(CLASSES):
        for column in range(CLASSES):
            assert matrix[row, column] == int(np.sum((found.labels == row) & (found.predicted == column)))
    rows = class_rows(matrix)
    assert sum(row["examples"] for row in rows) == sum(row["taken"] for row in rows) == len(found.labels)


def test_mistakes_come_surest_first() -> None:
    found = some()
    worst = mistakes(found, 10)
    probabilities = [mistake["probability"] for mistake in worst]
    assert probabilities == sorted(probabilities, reverse=True)
    for mistake in worst:
        at = mistake["row"] // 2
        assert mistake["true"] == found.labels[at] != found.predicted[at] == mistake["predicted"]
        assert mistake["of_true"] == pytest.approx(found.probabilities[at, found.labels[at]], abs=1e-6)
    everything = mistakes(found, 1000)
    assert len(everything) == int(np.sum(found.labels != found.predicted))
    assert worst == everything[:10]


def test_the_surest_right_example() -> None:
    found = some()
    at = surest_right(found)
    assert at is not None
    right = found.labels == found.predicted
    assert right[at]
    assert found.probabilities[at].max() == found.probabilities[right].max()
    assert surest_right(Predictions(found.rows, (found.predicted + 1).astype(np.int32) % CLASSES, found.probabilities)) is None


@pytest.mark.parametrize(("count", "most"), [(1, 100), (37, 100), (300, 100), (300, 7)])
def test_predictions_are_the_models(
    make_replica: Callable[..., Replica],
    make_spec: Callable[..., TrainSpec],
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    most: int,
) -> None:
    monkeypatch.setattr(predictions, "MOST_EXAMPLES", most)

    def build() -> Any:
        hidden = [keras.layers.Dense(8, "relu"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
        return keras.Sequential([keras.Input((6,)), *hidden, keras.layers.Dense(CLASSES)])

    replica = make_replica(make_spec(), build, scale=16.0)
    random = np.random.default_rng(1)
    features = {"x": random.integers(0, 17, (count, 6)).astype(np.uint8)}
    labels = random.integers(0, CLASSES, count).astype(np.int32)
    found = predict(replica, features, labels, CLASSES, 0, 1)
    assert len(found.rows) == min(count, most)
    logits = np.asarray(replica.model(features["x"][found.rows] / np.float32(16), training=False))
    np.testing.assert_allclose(found.probabilities, softmax(logits), rtol=1e-4, atol=1e-6)
    assert found.labels.tolist() == labels[found.rows].tolist()


def test_a_slow_model_is_asked_about_fewer_examples(
    make_replica: Callable[..., Replica], make_spec: Callable[..., TrainSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "MOST_SECONDS", 0.0)
    replica = make_replica(make_spec(), lambda: keras.Sequential([keras.Input((2,)), keras.layers.Dense(CLASSES)]))
    features = {"x": np.zeros((1000, 2), np.float32)}
    found = predict(replica, features, np.zeros(1000, np.int32), CLASSES, 0, 1)
    assert len(found.rows) == predictions.BATCH
    assert found.rows.max() > 900
