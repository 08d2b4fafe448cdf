"""Layers whose weights can be solved from targets: Dense, Conv2D and SimpleRNN as rows times one matrix of weights.

After Fairbank, Samothrakis and Citi, JMLR 23(8), 2022: A_l = [1, Ā_{l−1}] for a dense layer, patches with a column of ones for a
convolution, and [1, x̄_t, φ(T_{t−1})] of all time steps below one another for a recurrent layer.
"""

from typing import Any

import keras
import tensorflow as tf

from jobs.target_space.scan import SLOPES, scan
from service.errors import InvalidInput


class TargetLayer:
    """One layer: its rows A [n, columns], its matrix W [columns, units], and its sums A W [examples, …, units].

    The matrix is the bias, then the kernel, then a recurrent layer's own kernel, below one another.
    """

    def __init__(self, layer: keras.layers.Layer) -> None:
        self.layer = layer
        self.cell = getattr(layer, "cell", layer)
        self.variables = [
            variable
            for variable in (self.cell.bias, self.cell.kernel, getattr(self.cell, "recurrent_kernel", None))
            if variable is not None
        ]

    @property
    def units(self) -> int:
        return int(self.cell.kernel.shape[-1])

    def matrix(self) -> Any:
        """The layer's present weights as one matrix."""
        return tf.concat([tf.reshape(tf.convert_to_tensor(v.value), [-1, self.units]) for v in self.variables], axis=0)

    def split(self, matrix: Any) -> list[Any]:
        """The matrix as values of `variables`."""
        sizes = [int(tf.TensorShape(v.shape).num_elements()) // self.units for v in self.variables]
        return [tf.reshape(part, v.shape) for part, v in zip(tf.split(matrix, sizes), self.variables, strict=True)]

    def sums_shape(self, inputs: Any) -> tuple[int, ...]:
        """The shape of the targets for a batch of inputs."""
        return (*inputs.shape[:-1], self.units)

    def rows(self, inputs: Any, targets: Any) -> Any:
        """A; only a recurrent layer's depends on its own targets."""
        return self._with_ones(inputs)

    def sums(self, inputs: Any, matrix: Any) -> Any:
        """What the layer sums up before its activation with these weights: [examples, …, units]."""
        return tf.reshape(tf.matmul(self._with_ones(inputs), matrix), self.sums_shape(inputs))

    def outputs(self, sums: Any) -> Any:
        """What the layer gives for sums that are met: φ(sums)."""
        return self.cell.activation(sums)

    def forward(self, inputs: Any, training: bool) -> Any:
        """The layer's own call."""
        return self.layer(inputs, training=training)

    def _with_ones(self, inputs: Any) -> Any:
        flat = tf.reshape(inputs, [-1, inputs.shape[-1]])
        return flat if self.cell.bias is None else tf.concat([tf.ones_like(flat[:, :1]), flat], axis=1)


class TargetConv2D(TargetLayer):
    """A convolution: a row is the patch that one output looks at."""

    def sums_shape(self, inputs: Any) -> tuple[int, ...]:
        """[examples, height, width, filters]."""
        return tuple(self.layer.compute_output_shape(tuple(inputs.shape)))

    def rows(self, inputs: Any, targets: Any) -> Any:
        """Patches of all places of all examples, in the kernel's order."""
        return self._with_ones(self._patches(inputs))

    def sums(self, inputs: Any, matrix: Any) -> Any:
        """The convolution, by its patches."""
        return tf.reshape(tf.matmul(self.rows(inputs, None), matrix), self.sums_shape(inputs))

    def _patches(self, inputs: Any) -> Any:
        # Shifted copies: the gradient of tf.image.extract_patches is a product with a sparse matrix.
        (tall, wide), (down, right) = self.layer.kernel_size, self.layer.dilation_rate
        if self.layer.padding == "same":
            reach = ((tall - 1) * down, (wide - 1) * right)
            inputs = tf.pad(inputs, [[0, 0], *([size // 2, size - size // 2] for size in reach), [0, 0]])
        height, width = inputs.shape[1] - (tall - 1) * down, inputs.shape[2] - (wide - 1) * right
        shifts = [(row * down, column * right) for row in range(tall) for column in range(wide)]
        return tf.concat([inputs[:, i : i + height, j : j + width] for i, j in shifts], axis=-1)


class TargetSimpleRNN(TargetLayer):
    """A recurrent layer: one matrix for all time steps, solved as if the targets of the step before had been met (OCU)."""

    def rows(self, inputs: Any, targets: Any) -> Any:
        """[1, x̄_t, φ(T_{t−1})] of all examples and steps, zeros before the first."""
        return self._with_ones(self._with_states(inputs, self.cell.activation(targets)))

    def sums(self, inputs: Any, matrix: Any) -> Any:
        """The sums of all steps when the layer runs with these weights: [examples, steps, units]."""
        states = self._run(inputs, *self._parts(matrix))
        return tf.reshape(tf.matmul(self._with_ones(self._with_states(inputs, states)), matrix), self.sums_shape(inputs))

    def achieved(self, inputs: Any, matrix: Any) -> Any:
        """φ(sums), without making the sums: what the layer gives with these weights."""
        return self._given(self._run(inputs, *self._parts(matrix)))

    def outputs(self, sums: Any) -> Any:
        """All states or the last one, as the layer does."""
        return self._given(self.cell.activation(sums))

    def forward(self, inputs: Any, training: bool) -> Any:
        """As the layer's own call, by the faster scan."""
        bias = None if self.cell.bias is None else tf.convert_to_tensor(self.cell.bias.value)
        kernels = (tf.convert_to_tensor(self.cell.kernel.value), tf.convert_to_tensor(self.cell.recurrent_kernel.value))
        return self._given(self._run(inputs, bias, *kernels))

    def _parts(self, matrix: Any) -> tuple[Any, ...]:
        parts = self.split(matrix)
        return tuple(parts) if self.cell.bias is not None else (None, *parts)

    def _run(self, inputs: Any, bias: Any, kernel: Any, recurrent: Any) -> Any:
        driven = tf.matmul(tf.transpose(inputs, [1, 0, 2]), kernel)
        driven = driven if bias is None else driven + bias
        return tf.transpose(scan(driven, recurrent, self.cell.activation.__name__), [1, 0, 2])

    def _with_states(self, inputs: Any, states: Any) -> Any:
        before = tf.concat([tf.zeros_like(states[:, :1]), states[:, :-1]], axis=1)
        return tf.concat([inputs, before], axis=-1)

    def _given(self, states: Any) -> Any:
        return states if self.layer.return_sequences else states[:, -1]


def target_layer(layer: keras.layers.Layer) -> TargetLayer:
    """The layer as rows times a matrix; raise InvalidInput for one whose weights cannot be solved."""
    kinds = {keras.layers.Dense: TargetLayer, keras.layers.Conv2D: TargetConv2D, keras.layers.SimpleRNN: TargetSimpleRNN}
    kind = kinds.get(type(layer))
    if kind is None:
        raise _refused(layer, f"is a {type(layer).__name__}", "use Dense, Conv2D and SimpleRNN")
    if kind is TargetConv2D:
        _check_convolution(layer)
    if kind is TargetSimpleRNN:
        _check_recurrent(layer)
    return kind(layer)


def _check_convolution(layer: Any) -> None:
    if layer.strides != (1, 1):
        raise _refused(layer, f"has strides {layer.strides}", "use strides of 1, and pooling")
    if layer.groups != 1 or layer.data_format != "channels_last" or layer.padding not in ("same", "valid"):
        raise _refused(layer, "has groups or its channels first", "use groups of 1 and channels last")


def _check_recurrent(layer: Any) -> None:
    if layer.cell.activation.__name__ not in SLOPES:
        raise _refused(layer, f"has the activation {layer.cell.activation.__name__}", f"use {', '.join(sorted(SLOPES))}")
    for flag in ("go_backwards", "stateful", "return_state"):
        if getattr(layer, flag):
            raise _refused(layer, f"has {flag}", "leave it out")
    if layer.cell.dropout or layer.cell.recurrent_dropout:
        raise _refused(layer, "has dropout of its own", "use a Dropout layer")


def _refused(layer: Any, what: str, remedy: str) -> InvalidInput:
    return InvalidInput(f"The layer {layer.name!r} {what}, which target space cannot solve: {remedy}, or set space=weight.")
