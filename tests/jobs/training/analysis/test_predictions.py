"""Predictions of the test split, against NumPy."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.training.analysis import predictions
from jobs.training.analysis.predictions import (
    Predictions,
    batch_size,
    evenly_spaced,
    judgement,
    mistakes,
    pairs,
    predict,
    softmax,
    surest_right,
)
from jobs.training.replica import Replica
from service.specs.train import TrainSpec

CLASSES = 4


def some(count: int = 60, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count).astype(np.int32)
    kept = judgement(3 * random.standard_normal((count, CLASSES)).astype(np.float32), labels)
    return Predictions(np.arange(count) * 2, labels, kept[:, 0].astype(np.int64), kept[:, 1], kept[:, 2])


@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_what_is_kept_of_logits(count: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = (5 * random.standard_normal((count, classes))).astype(np.float32)
    labels = random.integers(0, classes, count).astype(np.int32)
    exact = np.exp(logits.astype(np.float64))
    exact /= exact.sum(axis=1, keepdims=True)
    kept = judgement(logits, labels)
    assert kept.dtype == np.float32
    np.testing.assert_array_equal(kept[:, 0], logits.argmax(axis=1))
    np.testing.assert_allclose(kept[:, 1], exact.max(axis=1), rtol=1e-4)
    np.testing.assert_allclose(kept[:, 2], exact[np.arange(count), labels], rtol=1e-4, atol=1e-12)


@given(st.integers(1, 10**7), st.integers(1, 10**6), st.integers(1, 64))
def test_the_logits_of_a_batch_are_few(count: int, classes: int, workers: int) -> None:
    batch = batch_size(count, (classes,), workers)
    assert 1 <= batch <= predictions.BATCH
    assert batch * classes <= predictions.MOST_VALUES


@given(st.integers(1, 300), st.integers(1, 300))
def test_rows_are_evenly_spaced(count: int, wanted: int) -> None:
    rows = evenly_spaced(count, min(wanted, count))
    assert len(set(rows.tolist())) == min(wanted, count)
    assert rows.min() >= 0
    assert rows.max() < count
    if len(rows) > 1:
        assert np.ptp(np.diff(rows)) <= 1


def test_pairs_count_true_and_predicted_classes() -> None:
    found = some()
    counted = {(true, predicted): count for true, predicted, count in pairs(found)}
    for true in range(CLASSES):
        for predicted in range(CLASSES):
            wanted = int(np.sum((found.labels == true) & (found.predicted == predicted)))
            assert counted.get((true, predicted), 0) == wanted and ((true, predicted) in counted) == (wanted > 0)
    assert list(counted) == sorted(counted)


def test_mistakes_come_surest_first() -> None:
    found = some()
    worst = mistakes(found, 10)
    probabilities = [mistake["probability"] for mistake in worst]
    assert probabilities == sorted(probabilities, reverse=True)
    for mistake in worst:
        at = mistake["row"] // 2
        assert mistake["true"] == found.labels[at] != found.predicted[at] == mistake["predicted"]
        assert mistake["of_true"] == pytest.approx(found.of_true[at], abs=1e-6)
    everything = mistakes(found, 1000)
    assert len(everything) == int(np.sum(found.labels != found.predicted))
    assert worst == everything[:10]


def test_the_surest_right_example() -> None:
    found = some()
    at = surest_right(found)
    assert at is not None
    right = found.labels == found.predicted
    assert right[at]
    assert found.probability[at] == found.probability[right].max()
    wrong = (found.predicted + 1).astype(np.int32) % CLASSES
    assert surest_right(Predictions(found.rows, wrong, found.predicted, found.probability, found.of_true)) is None


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
    probabilities = softmax(logits)
    np.testing.assert_allclose(found.probability, probabilities.max(axis=1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.of_true, probabilities[np.arange(len(found.rows)), labels[found.rows]], rtol=1e-4, atol=1e-6)
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
