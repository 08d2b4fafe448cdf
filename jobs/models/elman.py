"""The lecture's Elman network by hand: the hidden layer's state is the context that it sees at the next step."""

from collections.abc import Sequence

import keras
from keras import layers

from jobs.models.context import ElmanContext
from jobs.models.parameters import whole_number, whole_numbers
from jobs.models.recurrence import steps_model


def build(
    input_shape: tuple[int, ...], classes: int, every_step: bool = False, *, units: int = 128, hidden: Sequence[int] = ()
) -> keras.Model:
    """`units` tanh units that see the step's values and their own state before, Dense relu layers for `hidden`, logits.

    Takes (steps, values), or images by rows; gives (batch, classes), or (batch, steps, classes) where `every_step`.
    It computes what Keras' SimpleRNN does. Has, for v values, (v + u + 1) u + (u + 1) classes parameters.
    """
    model = steps_model("elman", input_shape)
    model.add(ElmanContext(whole_number("units", units), every_step, name="elman_context"))
    for width in whole_numbers("hidden", hidden):
        model.add(layers.Dense(width, activation="relu"))
    model.add(layers.Dense(classes, dtype="float32", name="logits"))
    return model
