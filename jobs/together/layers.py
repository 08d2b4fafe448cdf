"""What a model's layers compute, for the stacked weights of all members at once: values are [members, batch, …].

Written by hand for the layers that small models are made of: `tf.vectorized_map` over Keras' own call has no kernel for their loops.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from jobs.models.context import ElmanContext
from jobs.together.scan import scan
from service.errors import InvalidInput

Forward = Callable[[Any, list[Any], list[Any]], Any]
"""`forward(values, weights, noise)`: logits of values [members, batch, …], with the model's trainable variables, each
[members, …], and what each dropout layer multiplies with; without noise as in an evaluation."""


def stacked_forward(model: keras.Sequential) -> Forward:
    """The model's forward pass for stacked weights; raise InvalidInput for a layer that has none."""
    positions = {id(variable): index for index, variable in enumerate(model.trainable_variables)}
    passes: list[tuple[Any, list[int]]] = []
    for layer in model.layers:
        make = _PASSES.get(type(layer))
        if make is None:
            raise InvalidInput(f"A layer of type {type(layer).__name__} has no form for several members at once.")
        passes.append((make(layer), [positions[id(variable)] for variable in layer.trainable_variables]))

    def forward(values: Any, weights: list[Any], noise: list[Any]) -> Any:
        left = list(noise)
        for each, places in passes:
            if each is not None:
                values = each(values, *(weights[place] for place in places))
            elif noise:
                values = values * left.pop(0)
        return values

    return forward


def dropouts(model: keras.Sequential) -> list[Any]:
    """The layers that draw while they train, in the order of the forward pass."""
    return [layer for layer in model.layers if isinstance(layer, layers.Dropout)]


def _reshape(layer: Any) -> Any:
    shape = layer.output.shape[1:]
    return lambda values: tf.reshape(values, [*values.shape[:2], *shape])


def _dense(layer: Any) -> Any:
    return lambda values, kernel, bias: layer.activation(_affine(values, kernel, bias))


def _affine(values: Any, kernel: Any, bias: Any) -> Any:
    """The last axis of values times each member's kernel [members, inputs, outputs], and its bias [members, outputs]."""
    members, inputs, outputs = kernel.shape
    flat = tf.matmul(tf.reshape(values, [members, -1, inputs]), kernel) + bias[:, None]
    return tf.reshape(flat, [*values.shape[:-1], outputs])


def _simple_rnn(layer: Any) -> Any:
    def cell(driven: Any, product: Any, states: list[Any]) -> list[Any]:
        return [layer.activation(driven + product)]

    def call(values: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
        return _walk(layer.return_sequences, cell, _affine(values, kernel, bias), recurrent, 1)

    return call


def _elman(layer: ElmanContext) -> Any:
    def cell(driven: Any, product: Any, states: list[Any]) -> list[Any]:
        return [tf.tanh(driven + product)]

    def call(values: Any, kernel: Any, bias: Any) -> Any:
        inputs = values.shape[-1]
        return _walk(layer.every_step, cell, _affine(values, kernel[:, :inputs], bias), kernel[:, inputs:], 1)

    return call


def _lstm(layer: Any) -> Any:
    """Keras' order of the gates: input, forget, candidate, output."""

    def cell(driven: Any, product: Any, states: list[Any]) -> list[Any]:
        enter, forget, candidate, leave = tf.split(driven + product, 4, axis=-1)
        gate = layer.recurrent_activation
        carry = gate(forget) * states[1] + gate(enter) * layer.activation(candidate)
        return [gate(leave) * layer.activation(carry), carry]

    def call(values: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
        return _walk(layer.return_sequences, cell, _affine(values, kernel, bias), recurrent, 2)

    return call


def _gru(layer: Any) -> Any:
    """Keras' order: update, reset, candidate; the reset gate acts behind the product and its bias."""

    def cell(driven: Any, product: Any, states: list[Any]) -> list[Any]:
        update, reset, candidate, behind = tf.split(driven, 4, axis=-1)
        of_update, of_reset, of_candidate = tf.split(product, 3, axis=-1)
        update, reset = (layer.recurrent_activation(x) for x in (update + of_update, reset + of_reset))
        candidate = layer.activation(candidate + reset * (of_candidate + behind))
        return [update * states[0] + (1.0 - update) * candidate]

    def call(values: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
        units = layer.units
        gates = tf.concat([bias[:, 0, : 2 * units] + bias[:, 1, : 2 * units], bias[:, 0, 2 * units :]], axis=-1)
        driven = _affine(values, kernel, gates)
        # The candidate's recurrent bias goes along as if the inputs gave it.
        behind = tf.broadcast_to(bias[:, 1, None, None, 2 * units :], [*driven.shape[:3], units])
        return _walk(layer.return_sequences, cell, tf.concat([driven, behind], axis=-1), recurrent, 1)

    return call


def _walk(every_step: bool, cell: Any, driven: Any, recurrent: Any, count: int) -> Any:
    """From driven [members, batch, steps, width] to each step's answer, or the last one's."""
    answers = scan(cell, tf.transpose(driven, (2, 0, 1, 3)), recurrent, count)
    return tf.transpose(answers, (1, 2, 0, 3)) if every_step else answers[-1]


_PASSES: dict[type, Callable[[Any], Any]] = {
    layers.Flatten: _reshape,
    layers.Reshape: _reshape,
    layers.Dense: _dense,
    layers.Dropout: lambda layer: None,
    layers.SimpleRNN: _simple_rnn,
    layers.LSTM: _lstm,
    layers.GRU: _gru,
    ElmanContext: _elman,
}
