"""The lecture's Jordan network by hand: the output is the context that the hidden layer sees at the next step."""

import keras
from keras import layers

from jobs.layers.context import JordanContext
from jobs.layers.parameters import whole_number
from jobs.layers.recurrence import steps_model

PARAMETERS = {"units": 128}
EVERY_STEP = True


def build(input_shape: tuple[int, ...], classes: int, every_step: bool = False, *, units: int = 128) -> keras.Model:
    """`units` tanh units that see the step's values and the output before; logits of each step, or of the last.

    Takes (steps, values), or images by rows; gives (batch, classes), or (batch, steps, classes) where `every_step`.
    All that it remembers went through its output: with one output it can hold little more than its last answer.
    Has, for v values, (v + classes + 1) u + (u + 1) classes parameters.
    """
    model = steps_model("jordan", input_shape)
    model.add(JordanContext(whole_number("units", units), classes, every_step, name="jordan_context"))
    # The policy of low precision ends here: losses are computed of float32 logits.
    model.add(layers.Activation("linear", dtype="float32", name="logits"))
    return model
