"""One of several classes for each example: cross-entropy of a softmax over logits, and accuracy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from service.errors import BadData
from service.specs.train import TrainSpec

METRICS = ("accuracy",)


@dataclass(frozen=True)
class Classification:
    """`label_smoothing` moves that share of each target to all classes alike (Szegedy et al. 2016, section 7)."""

    label_smoothing: float = 0.0
    metric_names: tuple[str, ...] = METRICS
    every_step: bool = False
    chance: float | None = None

    def outputs(self, classes: int) -> int:
        """A logit for each class."""
        return classes

    def losses(self, labels: Any, logits: Any) -> Any:
        """Cross-entropy of each example: labels int32 [batch], logits [batch, classes]; float32 [batch]."""
        logits = tf.cast(logits, tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        if self.label_smoothing == 0.0:
            return losses
        everywhere = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
        return (1.0 - self.label_smoothing) * losses + self.label_smoothing * everywhere

    def metrics(self, labels: Any, logits: Any) -> dict[str, Any]:
        """`accuracy`: 1 where the largest logit is the label's, else 0; float32 [batch]."""
        predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
        return {"accuracy": tf.cast(tf.equal(predicted, tf.cast(labels, tf.int32)), tf.float32)}

    def decisions(self, logits: NDArray[np.float32]) -> NDArray[np.int64]:
        """The class of the largest logit: [examples] from [examples, classes]."""
        return np.asarray(logits.argmax(axis=-1), np.int64)

    def check_labels(self, labels: NDArray[np.int32], classes: int, examples: NDArray[np.int64] | None = None) -> None:
        """Every label is a class's number from 0."""
        wrong = np.flatnonzero((labels < 0) | (labels >= classes))
        if len(wrong):
            number = wrong[0] if examples is None else examples[wrong[0]]
            raise BadData(
                f"Example {number} has the label {labels[wrong[0]]}, but there are {classes} classes, 0 to {classes - 1}: correct the dataset."
            )


def make(spec: TrainSpec) -> Classification:
    """The task as a spec asks for it."""
    return Classification(spec.label_smoothing)
