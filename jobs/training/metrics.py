"""Metrics of evaluations beyond those of a task: Keras' own, whose states are sums over examples and so sums over workers.

A state is made from zeros for each batch, and added up in float64: counts of examples are whole numbers, so any order and any number of
workers give the same. Means over classes are over those that the examples hold: a class that is not there has no F1 and no AUC.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from service.specs.metric_names import AUC, F1, top_count


class ExtraMetrics:
    """The metrics of these names for answers among so many classes."""

    def __init__(self, names: Sequence[str], classes: int) -> None:
        self.names = tuple(names)
        self._classes = classes
        self._metrics = [_make(name, classes) for name in names]
        self._shapes = [[tuple(variable.shape) for variable in metric.variables] for metric in self._metrics]

    @property
    def width(self) -> int:
        """The length of the vector of all states."""
        return sum(int(np.prod(shape)) for shapes in self._shapes for shape in shapes)

    def sums(self, labels: Any, logits: Any, weights: Any) -> list[Any]:
        """The states, flat float32 each, of labels int32 [batch] and logits [batch, classes]; examples of weight 0 do not count."""
        if not self.names:
            return []
        # A padded example may give what is no number: zero times that is not zero.
        logits = tf.where(weights[:, tf.newaxis] > 0, tf.cast(logits, tf.float32), 0.0)
        answers, wanted = tf.nn.softmax(logits), tf.one_hot(labels, self._classes)
        states = []
        for name, metric, shapes in zip(self.names, self._metrics, self._shapes, strict=True):
            begin = [tf.zeros(shape) for shape in shapes]
            weigh = weights[:, tf.newaxis] if name == AUC else weights
            states += metric.stateless_update_state(begin, wanted, answers, sample_weight=weigh)
        return [tf.reshape(state, [-1]) for state in states]

    def results(self, sums: NDArray[np.float64]) -> dict[str, float]:
        """Compute the metrics from the flat sums of all examples' states."""
        sizes = [int(np.prod(shape)) for shapes in self._shapes for shape in shapes]
        pieces = iter(np.split(sums, np.cumsum(sizes)[:-1])) if sizes else iter(())
        found = {}
        for name, metric, shapes in zip(self.names, self._metrics, self._shapes, strict=True):
            state = [next(pieces).reshape(shape) for shape in shapes]
            found[name] = _result(name, metric, state)
        return found


def _make(name: str, classes: int) -> keras.metrics.Metric:
    if name == AUC:
        return keras.metrics.AUC(multi_label=True, num_labels=classes)
    if name == F1:
        metric = keras.metrics.F1Score(average=None)
        # Its variables are made by the first batch.
        metric.update_state(np.zeros((1, classes), np.float32), np.zeros((1, classes), np.float32))
        return metric
    return keras.metrics.TopKCategoricalAccuracy(top_count(name))


def _result(name: str, metric: keras.metrics.Metric, state: Sequence[NDArray[np.float64]]) -> float:
    if name == F1:
        right, missed = state[0], state[2]
        values = np.asarray(_value(metric, state))
        there = right + missed > 0
        return float(values[there].mean()) if there.any() else 0.0
    if name == AUC:
        # Of the lowest threshold, at which each example counts as positive.
        positive, negative = (state[0] + state[3])[0], (state[1] + state[2])[0]
        there = ((positive > 0) & (negative > 0)).astype(np.float32)
        weighted = keras.metrics.AUC(multi_label=True, num_labels=len(there), label_weights=there if there.any() else None)
        return float(_value(weighted, state))
    return float(_value(metric, state))


def _value(metric: keras.metrics.Metric, state: Sequence[NDArray[np.float64]]) -> Any:
    return keras.ops.convert_to_numpy(metric.stateless_result([tf.constant(each, tf.float32) for each in state]))
