"""A float16 step with gradients that are summed over all workers: checked once, unscaled, and applied or skipped by all workers alike.

Keras' LossScaleOptimizer does it before the sum, each worker with its own share: where one skips a step the others wait for its
gradient, and a limit on the gradient's norm limits each share's. Its scale follows the same rules here, in the same variables.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


class LossScale:
    """The scale of `optimizer`, and what it decides; `trained` are the model's trainable variables, in the order of the gradients."""

    def __init__(self, optimizer: keras.optimizers.LossScaleOptimizer, model: keras.Model, trained: Sequence[Any]) -> None:
        self._optimizer = optimizer
        layers = [layer for layer in model._flatten_layers() if getattr(layer, "compute_dtype", None) == "float16"]
        low = {id(variable) for layer in layers for variable in layer._trainable_variables}
        self._low = [id(variable) in low for variable in trained]

    def apply(self, summed: list[Any], pull_back: Callable[[list[Any]], list[Any]], variables: list[Any]) -> None:
        """Do the step, or halve the scale and do none; `pull_back` turns gradients by the weights into those by `variables`.

        To be called outside the replica context, where Keras neither sums once more nor clips a worker's share.
        """
        scale = tf.convert_to_tensor(self._optimizer.dynamic_scale.value)
        gradients = pull_back([gradient / tf.cast(scale, gradient.dtype) for gradient in summed])

        def step() -> None:
            self._optimizer.inner_optimizer.apply(gradients, variables)
            self._grow(scale)

        tf.cond(self._finite(summed), step, lambda: self._begin_again(scale * 0.5))

    def _finite(self, summed: list[Any]) -> Any:
        """Whether float16 holds every gradient, computed in it or not: one worker's would be the sum, so that any number decides alike."""
        computed = [tf.cast(g, tf.float16) if low else g for g, low in zip(summed, self._low, strict=True)]
        return tf.reduce_all(tf.stack([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in computed]))

    def _grow(self, scale: Any) -> None:
        """Twice the scale after so many steps without a change of it."""
        due = tf.equal(tf.convert_to_tensor(self._optimizer.step_counter.value), self._optimizer.dynamic_growth_steps - 1)
        tf.cond(due, lambda: self._begin_again(scale * 2.0), self._count)

    def _count(self) -> None:
        self._optimizer.step_counter.assign_add(1)

    def _begin_again(self, scale: Any) -> None:
        self._optimizer.step_counter.assign(0)
        self._optimizer.dynamic_scale.assign(scale)
