"""Losses, accuracy and labels of the classification task, against NumPy in float64."""

import numpy as np
import pytest
import tensorflow as tf

from jobs.tasks.classification import Classification
from jobs.tasks.registry import task_for
from service.errors import BadData, UnknownName, UserFailure
from service.specs.train import TrainSpec


def cross_entropy(labels: np.ndarray, logits: np.ndarray, smoothing: float) -> np.ndarray:
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    targets = np.eye(logits.shape[-1])[labels] * (1 - smoothing) + smoothing / logits.shape[-1]
    return -(targets * log_p).sum(-1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize(("classes", "spread"), [(2, 1.0), (10, 5.0), (1000, 40.0)])
def test_losses_are_the_cross_entropy_of_a_softmax(smoothing: float, classes: int, spread: float) -> None:
    rng = np.random.default_rng(classes)
    logits = (rng.normal(size=(64, classes)) * spread).astype(np.float32)
    labels = rng.integers(0, classes, 64, np.int32)
    losses = Classification(smoothing).losses(labels, tf.constant(logits))
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses.numpy(), cross_entropy(labels, logits, smoothing), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_losses_of_low_precision_logits_are_computed_in_float32(kind: str) -> None:
    logits = tf.cast(tf.constant([[1.5, -2.0, 30.0], [0.25, 0.5, 0.0]]), kind)
    losses = Classification(0.1).losses(np.array([0, 1]), logits)
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses.numpy(), cross_entropy(np.array([0, 1]), tf.cast(logits, tf.float32).numpy(), 0.1), 1e-5)


def test_accuracy_is_one_where_the_largest_logit_is_the_labels() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(200, 7)).astype(np.float32), rng.integers(0, 7, 200, np.int32)
    got = Classification().metrics(labels, tf.constant(logits))
    assert list(got) == ["accuracy"]
    assert got["accuracy"].dtype == tf.float32
    assert (got["accuracy"].numpy() == (logits.argmax(-1) == labels)).all()


def test_smoothing_leaves_a_perfect_guess_with_a_loss() -> None:
    sure, labels = tf.constant([[40.0, 0.0, 0.0, 0.0]]), np.array([0], np.int32)
    assert Classification().losses(labels, sure).numpy()[0] == pytest.approx(0, abs=1e-6)
    assert Classification(0.4).losses(labels, sure).numpy()[0] == pytest.approx(0.4 * 3 / 4 * 40)


@pytest.mark.parametrize(("label", "place"), [(-1, 3), (10, 0), (2**31 - 1, 49)])
def test_a_label_that_is_no_class_is_a_fault_of_the_data(label: int, place: int) -> None:
    labels = np.arange(50, dtype=np.int32) % 10
    Classification().check_labels(labels, 10)
    labels[place] = label
    with pytest.raises(BadData, match=f"Example {place} has the label {label}, but there are 10 classes") as refused:
        Classification().check_labels(labels, 10)
    assert isinstance(refused.value, UserFailure)


def test_a_spec_names_its_task() -> None:
    spec = TrainSpec(model="dense", dataset="digits", epochs=1, label_smoothing=0.2)
    assert task_for(spec) == Classification(0.2)
    with pytest.raises(UnknownName, match="There is no task 'regression': use bit-memory or classification"):
        task_for(spec.model_copy(update={"task": "regression"}))
