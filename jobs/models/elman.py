"""The lecture's Elman network by hand: the hidden layer's state is the context that it sees at the next step."""

from collections.abc import Sequence

import keras

from jobs.layers.context import ElmanContext
from jobs.layers.parameters import share
from jobs.layers.recurrence import stack, steps_model

PARAMETERS = {"units": 128, "hidden": (), "dropout": 0.0}
EVERY_STEP = True
VECTORIZED = ("units", "hidden")


def build(
    input_shape: tuple[int, ...],
    classes: int,
    every_step: bool = False,
    *,
    units: int | Sequence[int] = 128,
    hidden: Sequence[int] = (),
    dropout: float = 0.0,
) -> keras.Model:
    """For each of `units` a tanh layer that sees the step's values and its own state before, Dense relu layers for `hidden`,
    dropout, logits.

    Takes (steps, values), or images by rows; gives (batch, classes), or (batch, steps, classes) where `every_step`.
    It computes what Keras' SimpleRNN does. A layer of u units on v values has (v + u + 1) u parameters.
    """
    model = steps_model("elman", input_shape)
    return stack(model, ElmanContext, units, hidden, share("dropout", dropout), classes, every_step)
