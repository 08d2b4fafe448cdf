"""A Keras optimizer that changes the weights of all members at once, each by its own numbers.

All that the optimizer changes of a member is one row of one variable [members, size], so that what an optimizer does elementwise is one operation, and a
number of each member is a column [members, 1]. Clipping and its norms are each member's own.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers import schedules

from jobs.training.optimizers import make_optimizer
from service.specs.train import TrainSpec

_CLIPPINGS = ("clipnorm", "global_clipnorm", "clipvalue")


class StackedOptimizer:
    """The optimizers of `specs`, which differ in numbers alone, for `weights` [members, weights], made of parts of `sizes`."""

    def __init__(self, specs: Sequence[TrainSpec], total_steps: int, weights: keras.Variable, sizes: Sequence[int]) -> None:
        own = [make_optimizer(spec, total_steps) for spec in specs]
        self._weights = weights
        self._sizes = list(sizes)
        self._clippings = {name: _column([getattr(each, name) for each in own]) for name in _CLIPPINGS if getattr(own[0], name)}
        self._rates = _Rates([each._learning_rate for each in own])
        self._optimizer = own[0]
        for name in ("weight_decay", "epsilon"):
            numbers = [getattr(each, name, None) for each in own]
            if len(set(numbers)) > 1:
                setattr(self._optimizer, name, _column(numbers))
        for name in _CLIPPINGS:
            setattr(self._optimizer, name, None)
        self._optimizer.learning_rate = self._rates
        self._optimizer.build([weights])

    @property
    def iterations(self) -> keras.Variable:
        """How many steps are done."""
        return self._optimizer._iterations

    @property
    def slots(self) -> dict[str, keras.Variable]:
        """What the optimizer keeps of each weight, by its name in Keras: `momentum`, …"""
        prefix = f"{self._weights.path.replace('/', '_')}_"
        return {v.name.removeprefix(prefix): v for v in self._optimizer.variables if v.name.startswith(prefix)}

    def rates(self) -> Any:
        """The learning rates of the next step: [members]."""
        return self._rates(self.iterations)[:, 0]

    def apply(self, gradients: Any) -> None:
        """Apply gradients [members, weights]."""
        self._optimizer.apply([self._clipped(gradients)], [self._weights])

    def _clipped(self, gradients: Any) -> Any:
        """As keras.optimizers does it, whose norms would be those of all members."""
        if (limit := self._clippings.get("clipvalue")) is not None:
            return tf.clip_by_value(gradients, -limit, limit)
        if (limit := self._clippings.get("clipnorm")) is not None:
            parts = tf.split(gradients, self._sizes, axis=1)
            return tf.concat([part * limit / tf.maximum(_norm(part), limit) for part in parts], axis=1)
        if (limit := self._clippings.get("global_clipnorm")) is not None:
            return gradients * (limit * tf.minimum(1.0 / _norm(gradients), 1.0 / limit))
        return gradients


class _Rates(schedules.LearningRateSchedule):
    """Each member's learning rate, a column [members, 1]."""

    def __init__(self, rates: Sequence[Any]) -> None:
        super().__init__()
        self._rates = [rate if callable(rate) else float(keras.ops.convert_to_numpy(rate)) for rate in rates]

    def __call__(self, step: Any) -> Any:
        return tf.stack([tf.cast(rate(step) if callable(rate) else rate, tf.float32) for rate in self._rates])[:, None]

    def get_config(self) -> dict[str, Any]:
        return {"rates": self._rates}


def _column(numbers: Sequence[Any]) -> Any:
    return np.array(numbers, np.float32)[:, None]


def _norm(values: Any) -> Any:
    """Of each member: [members, 1]."""
    return tf.sqrt(tf.reduce_sum(tf.square(values), axis=1, keepdims=True))
