"""A bit at each step of a sequence: cross-entropy of a sigmoid, and the share of the bits that are right."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from service.errors import BadData
from service.specs.generated import CHANCE_OF_BITS
from service.specs.train import TrainSpec

METRICS = ("accuracy",)
EVERY_STEP = True
DATASET = "bits"


@dataclass(frozen=True)
class BitMemory:
    """Steps whose label is -1 do not count. `label_smoothing` moves half of that share of each target to the other bit."""

    label_smoothing: float = 0.0
    metric_names: tuple[str, ...] = METRICS
    every_step: bool = EVERY_STEP
    chance: float | None = CHANCE_OF_BITS

    def outputs(self, classes: int) -> int:
        """One logit a step: above 0 is the bit 1."""
        return 1

    def losses(self, labels: Any, logits: Any) -> Any:
        """Mean cross-entropy of the bits that count: labels int32 [batch, steps], logits [batch, steps, 1]; float32 [batch]."""
        logits = tf.cast(logits, tf.float32)[..., 0]
        wanted = tf.cast(labels > 0, tf.float32) * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing
        return _mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted, logits=logits), labels)

    def metrics(self, labels: Any, logits: Any) -> dict[str, Any]:
        """`accuracy`: the share of the bits that count that are right; float32 [batch]. Chance is 0.5."""
        right = tf.equal(logits[..., 0] > 0, tf.convert_to_tensor(labels) > 0)
        return {"accuracy": _mean(tf.cast(right, tf.float32), labels)}

    def decisions(self, logits: NDArray[np.float32]) -> NDArray[np.int64]:
        """The bit of each step: [examples, steps] from [examples, steps, 1]."""
        return (logits[..., 0] > 0).astype(np.int64)

    def check_labels(self, labels: NDArray[np.int32], classes: int, examples: NDArray[np.int64] | None = None) -> None:
        """Every label is 0, 1 or -1, and each example has a step that counts."""
        if labels.ndim != 2 or not np.isin(labels, (-1, 0, 1)).all() or not (labels >= 0).any(axis=1).all():
            raise BadData(
                "The labels of this task are 0, 1 and -1 at each step, and some step of each example counts: correct the dataset."
            )


def _mean(values: Any, labels: Any) -> Any:
    """The mean of values [batch, steps] over the steps that count: [batch]."""
    counts = tf.cast(tf.convert_to_tensor(labels) >= 0, tf.float32)
    return tf.reduce_sum(values * counts, axis=1) / tf.reduce_sum(counts, axis=1)


def make(spec: TrainSpec) -> BitMemory:
    """The task as a spec asks for it."""
    return BitMemory(spec.label_smoothing)
