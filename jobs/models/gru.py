"""Gated recurrent units (Cho et al. 2014) as Keras has them: the reset gate acts after the matrix product."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from jobs.layers.parameters import choice, share
from jobs.layers.recurrence import OPEN, open_orthogonal, scale_inputs, stack, steps_model

PARAMETERS = {"units": 128, "start": "constant", "input_scale": 1.0, "hidden": (), "dropout": 0.0}
STARTS = ("constant", "simple")
EVERY_STEP = True
VECTORIZED = ("units", "hidden")


def build(
    input_shape: tuple[int, ...],
    classes: int,
    every_step: bool = False,
    *,
    units: int | Sequence[int] = 128,
    start: str = "constant",
    input_scale: float = 1.0,
    hidden: Sequence[int] = (),
    dropout: float = 0.0,
) -> keras.Model:
    """A GRU layer for each of `units`, Dense relu layers for `hidden`, dropout, logits.

    Takes (steps, values), or images by rows; gives (batch, classes), or (batch, steps, classes) where `every_step`.
    `start` is how the gates begin: `constant`, in the middle (Keras' default), or `simple`: the update gate shut, the reset gate open,
    the candidate's recurrent kernel orthogonal, so that the layer begins as a simple recurrent one, which hands everything on.
    `input_scale` multiplies the first kernel of the lowest layer, as in `simple-rnn`.
    A layer of u units on v values has 3 (v + u + 2) u parameters.
    """
    kind = choice("start", start, STARTS)

    def layer(width: int, sequences: bool) -> Any:
        return layers.GRU(width, return_sequences=sequences)

    model = stack(steps_model("gru", input_shape), layer, units, hidden, share("dropout", dropout), classes, every_step)
    for each in model.layers:
        if isinstance(each, layers.GRU) and kind == "simple":
            _begin_simple(each)
    scale_inputs(model, layers.GRU, input_scale)
    return model


def _begin_simple(layer: layers.GRU) -> None:
    """Keras' order is update gate, reset gate, candidate; of the two rows of biases the first is the inputs'."""
    units, bias = layer.units, np.zeros(layer.cell.bias.shape, np.float32)
    kernel = np.array(keras.ops.convert_to_numpy(layer.cell.recurrent_kernel))
    bias[0, :units], bias[0, units : 2 * units] = -OPEN, OPEN
    kernel[:, 2 * units :] = open_orthogonal(units)
    layer.cell.bias.assign(bias)
    layer.cell.recurrent_kernel.assign(kernel)
