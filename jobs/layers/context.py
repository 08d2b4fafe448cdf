"""Recurrence by hand: Dense layers and concatenation, stepped in a loop, with a context that the next step sees.

Elman's context is what the hidden layer held, Jordan's is what the network answered. Keras' SimpleRNN is Elman's network:
its two kernels are the rows of the one Dense kernel here. Both are registered with Keras: elsewhere their `.keras` files open
after `import jobs.layers.context`; a SavedModel needs no import.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers


class Context(layers.Layer):
    """Goes through [batch, steps, values] step by step; gives each step's answer, or the last one's."""

    def __init__(self, units: int, every_step: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.every_step = every_step
        self.hidden = layers.Dense(units, activation="tanh", kernel_initializer=Stacked(), name="hidden", dtype=self.dtype_policy)

    def step(self, values: Any, context: Any) -> tuple[Any, Any, Any]:
        """One step: (answer, next context, hidden state), each [batch, …], of values and the context before."""
        raise NotImplementedError

    def width(self) -> int:
        """Of the context."""
        raise NotImplementedError

    def answers(self) -> int:
        """The width of an answer."""
        raise NotImplementedError

    def first_context(self, batch: Any) -> Any:
        """Zeros [batch, width]."""
        return keras.ops.zeros((batch, self.width()), self.compute_dtype)

    def call(self, inputs: Any) -> Any:
        """The answers [batch, steps, answers] where `every_step`, else the last step's [batch, answers]."""
        answers = self._walk(inputs, self.answers(), lambda answer, hidden: answer)
        return answers if self.every_step else answers[:, -1]

    def states(self, inputs: Any) -> Any:
        """The hidden states of all steps, [batch, steps, units]."""
        return self._walk(inputs, self.units, lambda answer, hidden: hidden)

    def _walk(self, inputs: Any, width: int, keep: Callable[[Any, Any], Any]) -> Any:
        """Go through the steps; what `keep` gives of each, [batch, steps, width]."""
        steps = inputs.shape[1]
        by_step = tf.transpose(inputs, (1, 0, 2))

        # The number of iterations is known: XLA compiles the loop and its gradient.
        def one(index: Any, context: Any, kept: Any) -> tuple[Any, Any, Any]:
            answer, context, hidden = self.step(by_step[index], context)
            return index + 1, context, kept.write(index, keep(answer, hidden))

        kept = tf.TensorArray(self.compute_dtype, size=steps, element_shape=(inputs.shape[0], width))
        state = (tf.constant(0), self.first_context(tf.shape(inputs)[0]), kept)
        *_, kept = tf.while_loop(lambda index, *_: index < steps, one, state, maximum_iterations=steps)
        return tf.transpose(kept.stack(), (1, 0, 2))

    def build(self, input_shape: Any) -> None:
        """Make the weights for [batch, steps, values]."""
        self.hidden.kernel_initializer.values = input_shape[-1]
        self.hidden.build((None, input_shape[-1] + self.width()))
        super().build(input_shape)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Of the answers."""
        return (*input_shape[: 2 if self.every_step else 1], self.answers())

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "units": self.units, "every_step": self.every_step}


class Stacked(keras.initializers.Initializer):
    """SimpleRNN's two kernels above each other: glorot uniform for the values, orthogonal for the context."""

    values = 0

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """Of [values + context, units]."""
        above = keras.initializers.GlorotUniform()((self.values, shape[1]), dtype)
        below = keras.initializers.Orthogonal()((shape[0] - self.values, shape[1]), dtype)
        return keras.ops.concatenate([above, below])


@keras.saving.register_keras_serializable("delayline")
class ElmanContext(Context):
    """Hidden → context (Elman 1990): h_t = tanh(Dense[x_t, h_{t-1}]); the answer is h_t, [batch, units]."""

    def step(self, values: Any, context: Any) -> tuple[Any, Any, Any]:
        hidden = self.hidden(keras.ops.concatenate([values, context], axis=-1))
        return hidden, hidden, hidden

    def width(self) -> int:
        return self.units

    def answers(self) -> int:
        return self.units


@keras.saving.register_keras_serializable("delayline")
class JordanContext(Context):
    """Output → context (Jordan 1986): h_t = tanh(Dense[x_t, φ(y_{t-1})]), y_t = Dense[h_t]; the answer is y_t, logits.

    φ is a sigmoid for one output and a softmax for several: the context holds what the network answered.
    """

    def __init__(self, units: int, classes: int, every_step: bool = False, **kwargs: Any) -> None:
        super().__init__(units, every_step, **kwargs)
        self.classes = classes
        self.output_layer = layers.Dense(classes, name="logits", dtype=self.dtype_policy)

    def step(self, values: Any, context: Any) -> tuple[Any, Any, Any]:
        hidden = self.hidden(keras.ops.concatenate([values, context], axis=-1))
        logits = self.output_layer(hidden)
        answered = keras.ops.sigmoid(logits) if self.classes == 1 else keras.ops.softmax(logits)
        return logits, answered, hidden

    def width(self) -> int:
        return self.classes

    def answers(self) -> int:
        return self.classes

    def build(self, input_shape: Any) -> None:
        self.output_layer.build((None, self.units))
        super().build(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "classes": self.classes}
