"""Gated recurrent units (Cho et al. 2014) as Keras has them: the reset gate acts behind the matrix product."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from jobs.models.parameters import share
from jobs.models.recurrence import stack, steps_model


def build(
    input_shape: tuple[int, ...],
    classes: int,
    every_step: bool = False,
    *,
    units: int | Sequence[int] = 128,
    hidden: Sequence[int] = (),
    dropout: float = 0.0,
) -> keras.Model:
    """A GRU layer for each of `units`, Dense relu layers for `hidden`, dropout, logits.

    Takes (steps, values), or images by rows; gives (batch, classes), or (batch, steps, classes) where `every_step`.
    A layer of u units on v values has 3 (v + u + 2) u parameters.
    """

    def layer(width: int, sequences: bool) -> Any:
        return layers.GRU(width, return_sequences=sequences)

    return stack(steps_model("gru", input_shape), layer, units, hidden, share("dropout", dropout), classes, every_step)
