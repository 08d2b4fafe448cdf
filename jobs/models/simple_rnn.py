"""The simple recurrent network (Elman 1990) as Keras has it: h_t = tanh(W x_t + U h_{t-1} + b)."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from jobs.layers.parameters import choice, share
from jobs.layers.recurrence import scale_inputs, stack, steps_model

PARAMETERS = {"units": 128, "start": "orthogonal", "input_scale": 1.0, "activation": "tanh", "hidden": (), "dropout": 0.0}
STARTS = ("orthogonal", "glorot", "identity", "chain")
EVERY_STEP = True
SOLVABLE = True
VECTORIZED = ("units", "hidden")

INITIALIZERS = {"orthogonal": "orthogonal", "glorot": "glorot_uniform", "identity": "identity", "chain": "zeros"}
"""Keras' initializer of each of `STARTS`."""


def build(
    input_shape: tuple[int, ...],
    classes: int,
    every_step: bool = False,
    *,
    units: int | Sequence[int] = 128,
    start: str = "orthogonal",
    input_scale: float = 1.0,
    activation: str = "tanh",
    hidden: Sequence[int] = (),
    dropout: float = 0.0,
) -> keras.Model:
    """A SimpleRNN layer for each of `units`, Dense relu layers for `hidden`, dropout, logits.

    Takes (steps, values), or images by rows; gives (batch, classes), or (batch, steps, classes) where `every_step`.
    `start` is how U begins: `orthogonal` (Keras' default; Saxe et al. 2014), `glorot`, `identity` (Le, Jaitly, Hinton
    2015, with `activation: relu`), or `chain`, where each unit takes over what the one before it held and the inputs reach
    the first units alone: a delay line that remembers by construction. `input_scale` multiplies the first W, of the lowest
    layer: where it is small, tanh stays nearly linear, and an orthogonal U keeps what went in for many steps. A layer of u units on v values has (v + u + 1) u
    parameters.
    """
    kind = choice("start", start, STARTS)
    name = choice("activation", activation, ("tanh", "relu", "sigmoid", "elu", "selu", "silu"))

    def layer(width: int, sequences: bool) -> Any:
        return layers.SimpleRNN(width, activation=name, recurrent_initializer=INITIALIZERS[kind], return_sequences=sequences)

    model = stack(steps_model("simple-rnn", input_shape), layer, units, hidden, share("dropout", dropout), classes, every_step)
    if kind == "chain":
        for each in model.layers:
            if isinstance(each, layers.SimpleRNN):
                _chain(each)
    scale_inputs(model, layers.SimpleRNN, input_scale)
    return model


def _chain(layer: layers.SimpleRNN) -> None:
    """Input i reaches unit i; with v inputs, unit j + v takes over what unit j held."""
    values, units = layer.cell.kernel.shape
    layer.cell.kernel.assign(np.eye(values, units, dtype=np.float32))
    layer.cell.recurrent_kernel.assign(np.eye(units, k=values, dtype=np.float32))
