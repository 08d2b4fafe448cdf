"""Losses and accuracy of bits at each step, against NumPy in float64."""

import numpy as np
import pytest
import tensorflow as tf

from jobs.tasks.bit_memory import BitMemory
from jobs.tasks.registry import task_for
from service.errors import BadData
from service.specs.train import TrainSpec


def some(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (6, 11)).astype(np.int32)
    labels[:, :4] = -1
    return labels, rng.normal(size=(6, 11, 1)).astype(np.float32) * 4


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_loss_is_the_mean_cross_entropy_of_the_bits_that_count(smoothing: float) -> None:
    labels, logits = some()
    p = 1 / (1 + np.exp(-logits[:, 4:, 0].astype(np.float64)))
    wanted = labels[:, 4:] * (1 - smoothing) + smoothing / 2
    losses = BitMemory(smoothing).losses(labels, tf.constant(logits))
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses, -(wanted * np.log(p) + (1 - wanted) * np.log(1 - p)).mean(1), rtol=1e-4)


def test_steps_that_do_not_count_change_nothing() -> None:
    labels, logits = some()
    other = logits.copy()
    other[:, :4] *= -100
    for task in (BitMemory(), BitMemory(0.1)):
        assert (task.losses(labels, logits).numpy() == task.losses(labels, other).numpy()).all()
        assert (task.metrics(labels, logits)["accuracy"].numpy() == task.metrics(labels, other)["accuracy"].numpy()).all()


def test_accuracy_is_the_share_of_the_bits_that_are_right() -> None:
    labels, logits = some()
    got = BitMemory().metrics(labels, tf.constant(logits))["accuracy"]
    assert got.dtype == tf.float32
    np.testing.assert_allclose(got, ((logits[:, 4:, 0] > 0) == labels[:, 4:]).mean(1), rtol=1e-6)
    assert (BitMemory().decisions(logits) == (logits[..., 0] > 0)).all()


def test_labels_of_other_kinds_are_a_fault_of_the_data() -> None:
    labels, _ = some()
    BitMemory().check_labels(labels, 2)
    for wrong in (labels + 1, labels[0], np.full_like(labels, -1)):
        with pytest.raises(BadData, match="0, 1 and -1"):
            BitMemory().check_labels(wrong, 2)


def test_a_spec_names_it() -> None:
    spec = TrainSpec(model="lstm", dataset="bits", task="bit-memory", epochs=1, label_smoothing=0.1)
    assert task_for(spec) == BitMemory(0.1)
    assert (BitMemory().outputs(2), BitMemory().every_step) == (1, True)
