"""How much each training example counts in the loss: by its class, by a column of the dataset, or by both, multiplied.

As in Keras' fit the loss of a batch is Σ w·l / batch, not divided by the weights' sum. Evaluations have no weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from jobs.datasets.reading import Indices
from service.datasets.class_weights import number_of_class
from service.errors import BadData
from service.specs.train import TrainSpec

MOST_TOLD = 10


@dataclass(frozen=True)
class ExampleWeights:
    """`classes`: float32 [classes], or None where all count alike; `column`: the feature that holds each example's weight, or None."""

    classes: NDArray[np.float32] | None = None
    column: str | None = None

    def of(self, labels: Any, features: Mapping[str, Any]) -> Any | None:
        """Float32 [batch] for labels int32 [batch] and the stored features of the same examples; None where all count alike."""
        weights = None
        if self.column is not None:
            weights = tf.reshape(tf.cast(features[self.column], tf.float32), [-1])
        if self.classes is not None:
            by_class = tf.gather(tf.constant(self.classes), labels)
            weights = by_class if weights is None else by_class * weights
        return weights

    def message(self, names: Sequence[str]) -> str:
        """Describe them in a sentence, for the event before the first step; empty where all count alike."""
        parts = [] if self.classes is None else [f"by its class: {_listed(self.classes, names)}"]
        parts += [] if self.column is None else [f"by the dataset's {self.column!r}"]
        return f"each example's training loss is multiplied {' and '.join(parts)}; val_ and test_ are unweighted" if parts else ""


def _listed(classes: NDArray[np.float32], names: Sequence[str]) -> str:
    order = np.argsort(classes, kind="stable")
    if len(names) <= MOST_TOLD:
        return ", ".join(f"{name} {weight:.4g}" for name, weight in zip(names, classes, strict=True))
    least, most = order[0], order[-1]
    return f"{len(names)} classes, from {classes[least]:.4g} ({names[least]}) to {classes[most]:.4g} ({names[most]})"


def make_weights(spec: TrainSpec, labels: NDArray[np.int32], classes: Sequence[str]) -> ExampleWeights:
    """Make the weights that a spec asks for; `labels` are those of the training examples."""
    return ExampleWeights(_class_weights(spec, labels, classes), spec.sample_weight)


def _class_weights(spec: TrainSpec, labels: NDArray[np.int32], classes: Sequence[str]) -> NDArray[np.float32] | None:
    if spec.class_weight is None:
        return None
    if not isinstance(spec.class_weight, dict):
        counts = np.bincount(labels, minlength=len(classes))
        there = np.count_nonzero(counts)
        return np.where(counts > 0, len(labels) / (there * np.maximum(counts, 1)), 1.0).astype(np.float32)
    weights = np.ones(len(classes), np.float32)
    for name, weight in spec.class_weight.items():
        weights[number_of_class(name, classes)] = weight
    return weights


def check_weights(column: str, values: NDArray[Any], examples: Indices) -> None:
    """Raise BadData for a weight that is negative or not finite; `examples` are the numbers of the values' examples."""
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)).reshape(-1))
    if len(wrong):
        raise BadData(
            f"Example {examples[wrong[0]]} of the training split has the weight {values.reshape(-1)[wrong[0]]} in {column!r}, but a "
            "weight is a finite number of at least 0: correct the dataset."
        )
