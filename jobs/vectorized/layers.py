"""What a model's layers compute, for the stacked weights of all members at once.

Written by hand for the layers that small models are made of: `tf.vectorized_map` over Keras' own call has no kernel for their loops.
Values are [members, batch, …]; those of each time step lie as [members, steps, batch, width], see jobs.vectorized.scan.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from jobs.layers.context import ElmanContext
from jobs.target_space.scan import SLOPES
from jobs.vectorized.scan import Cell, scan
from service.errors import InvalidInput

Forward = Callable[[Any, list[Any], list[Any]], Any]
"""`forward(values, weights, noise)`: logits of values [members, batch, …], with the model's trainable variables, each
[members, …], and what each dropout layer multiplies with; an evaluation has no noise."""
THIN = 4
"""Inputs or outputs that are so few are added up. Measured with one output: a third of a matrix product's time."""


def stacked_forward(model: keras.Sequential) -> Forward:
    """The model's forward pass for stacked weights; raise InvalidInput for a layer that has none."""
    positions = {id(variable): index for index, variable in enumerate(model.trainable_variables)}
    passes: list[tuple[Any, list[int]]] = []
    recurs = False
    for layer in model.layers:
        call = stacked_layer(layer)
        if isinstance(layer, _RECURRENT) and not recurs:
            recurs = True
            passes.append((swap_steps, []))
        passes.append((call, [positions[id(variable)] for variable in layer.trainable_variables]))
    every_step = recurs and len(model.output_shape) == 3

    def forward(values: Any, weights: list[Any], noise: list[Any]) -> Any:
        left = [swap_steps(each) if every_step else each for each in noise]
        for each, places in passes:
            if each is not None:
                values = each(values, *(weights[place] for place in places))
            elif noise:
                values = values * left.pop(0)
        return swap_steps(values) if every_step else values

    return forward


def stacked_layer(layer: Any) -> Callable[..., Any] | None:
    """What a layer computes from values and its weights [members, …], None if nothing; raise InvalidInput for a layer without such a form."""
    make = _PASSES.get(type(layer))
    if make is None:
        raise InvalidInput(f"A layer of type {type(layer).__name__} has no form for several members at once.")
    return make(layer)


def dropouts(model: keras.Sequential) -> list[Any]:
    """The layers that draw while they train, in the order of the forward pass."""
    return [layer for layer in model.layers if isinstance(layer, layers.Dropout)]


def swap_steps(values: Any) -> Any:
    """Values of time steps from [members, batch, steps, width] to [members, steps, batch, width], or back."""
    return tf.transpose(values, (0, 2, 1, 3))


def _reshape(layer: Any) -> Any:
    shape = layer.output.shape[1:]
    return lambda values: tf.reshape(values, [*values.shape[:2], *shape])


def _dense(layer: Any) -> Any:
    return lambda values, kernel, bias: layer.activation(_affine(values, kernel, bias))


def _affine(values: Any, kernel: Any, bias: Any) -> Any:
    """The last axis of values times each member's kernel [members, inputs, outputs], and its bias [members, outputs]."""
    members, inputs, outputs = kernel.shape

    @tf.custom_gradient
    def differentiable(rows: Any, kernel: Any, bias: Any) -> tuple[Any, Any]:
        def gradients(by_sums: Any) -> tuple[Any, Any, Any]:
            by_rows = _product(by_sums, tf.transpose(kernel, (0, 2, 1)))
            # A product with ones: XLA's own sum over the rows takes several times as long.
            by_bias = tf.matmul(tf.ones([members, 1, rows.shape[1]]), by_sums)[:, 0]
            return by_rows, tf.matmul(rows, by_sums, transpose_a=True), by_bias

        return _product(rows, kernel) + bias[:, None], gradients

    sums = differentiable(tf.reshape(values, [members, -1, inputs]), kernel, bias)
    return tf.reshape(sums, [*values.shape[:-1], outputs])


def _product(rows: Any, kernel: Any) -> Any:
    """[members, rows, inputs] times [members, inputs, outputs]."""
    _, inputs, outputs = kernel.shape
    if inputs <= THIN:
        return tf.add_n([rows[:, :, place, None] * kernel[:, None, place] for place in range(inputs)])
    if outputs <= THIN:
        return tf.stack([tf.reduce_sum(rows * kernel[:, None, :, place], axis=-1) for place in range(outputs)], axis=-1)
    return tf.matmul(rows, kernel)


def _simple_rnn(layer: Any) -> Any:
    cell = _plain(layer.activation)

    def call(values: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
        return _answers(layer.return_sequences, scan(cell, _affine(values, kernel, bias), recurrent))

    return call


def _elman(layer: ElmanContext) -> Any:
    cell = _plain(keras.activations.tanh)

    def call(values: Any, kernel: Any, bias: Any) -> Any:
        inputs = values.shape[-1]
        return _answers(layer.every_step, scan(cell, _affine(values, kernel[:, :inputs], bias), kernel[:, inputs:]))

    return call


def _plain(activation: Any) -> Cell:
    """Of a layer whose only state is its answer."""
    return Cell(lambda driven, product, states: [activation(driven + product)], slope=SLOPES.get(activation.__name__))


def _lstm(layer: Any) -> Any:
    """Keras' order of the gates: input, forget, candidate, output."""

    def step(driven: Any, product: Any, states: list[Any]) -> list[Any]:
        enter, forget, candidate, output = tf.split(driven + product, 4, axis=-1)
        gate = layer.recurrent_activation
        carry = gate(forget) * states[1] + gate(enter) * layer.activation(candidate)
        return [gate(output) * layer.activation(carry), carry]

    def call(values: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
        return _answers(layer.return_sequences, scan(Cell(step, 2), _affine(values, kernel, bias), recurrent))

    return call


def _gru(layer: Any) -> Any:
    """Keras' order: update, reset, candidate; the reset gate acts after the product and its bias."""

    def step(driven: Any, product: Any, states: list[Any]) -> list[Any]:
        update, reset, candidate, after = tf.split(driven, 4, axis=-1)
        of_update, of_reset, of_candidate = tf.split(product, 3, axis=-1)
        update, reset = (layer.recurrent_activation(x) for x in (update + of_update, reset + of_reset))
        candidate = layer.activation(candidate + reset * (of_candidate + after))
        return [update * states[0] + (1.0 - update) * candidate]

    def call(values: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
        units = layer.units
        gates, after = bias[:, 0, : 2 * units] + bias[:, 1, : 2 * units], bias[:, 1, 2 * units :]
        # The candidate's recurrent bias goes along as if the inputs gave it.
        wide = tf.pad(kernel, [[0, 0], [0, 0], [0, units]])
        driven = _affine(values, wide, tf.concat([gates, bias[:, 0, 2 * units :], after], axis=-1))
        return _answers(layer.return_sequences, scan(Cell(step), driven, recurrent))

    return call


def _answers(every_step: bool, answers: Any) -> Any:
    """Each step's, [members, steps, batch, units], or the last one's, [members, batch, units]."""
    return answers if every_step else answers[:, -1]


_PASSES: dict[type, Callable[[Any], Callable[..., Any] | None]] = {
    layers.Flatten: _reshape,
    layers.Reshape: _reshape,
    layers.Dense: _dense,
    layers.Dropout: lambda layer: None,
    layers.SimpleRNN: _simple_rnn,
    layers.LSTM: _lstm,
    layers.GRU: _gru,
    ElmanContext: _elman,
}
_RECURRENT = (layers.SimpleRNN, layers.LSTM, layers.GRU, ElmanContext)
