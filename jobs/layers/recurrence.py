"""What the recurrent models have in common: how examples become steps, and how layers are stacked on each other."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from jobs.layers.parameters import positive, whole_number, whole_numbers
from service.errors import InvalidInput

OPEN = 4.0
"""The bias of a gate that begins open, the negative of one that begins shut: 0.98 and 0.02 (assumed: it still learns)."""
MakeLayer = Callable[[int, bool], Any]
"""`make(units, every_step)`: a layer that gives each of its states, or the last."""


def steps_model(name: str, input_shape: tuple[int, ...]) -> keras.Sequential:
    """A model that takes examples of (steps, values), or images (height, width, channels) as one step for each row of pixels.

    Raise InvalidInput for examples of other shapes.
    """
    if len(input_shape) not in (2, 3):
        raise InvalidInput(
            f"The model {name!r} takes sequences of shape (steps, values) or images (height, width, channels), "
            f"but the dataset's examples are {input_shape}: use dense."
        )
    model = keras.Sequential([keras.Input(input_shape)], name=name.replace("-", "_"))
    if len(input_shape) == 3:
        height, width, channels = input_shape
        model.add(layers.Reshape((height, width * channels), name="rows"))
    return model


def stack(
    model: keras.Sequential, make: MakeLayer, units: Any, hidden: Sequence[int], dropout: float, classes: int, every_step: bool
) -> keras.Sequential:
    """Add a recurrent layer for each of `units`, a Dense relu layer for each of `hidden`, and logits.

    The logits are (batch, steps, classes) where `every_step`, of the last step alone, (batch, classes), otherwise.
    """
    widths = layer_widths(units)
    for place, width in enumerate(widths):
        model.add(make(width, every_step or place < len(widths) - 1))
    for width in whole_numbers("hidden", hidden):
        model.add(layers.Dense(width, activation="relu"))
    if dropout:
        model.add(layers.Dropout(dropout))
    model.add(layers.Dense(classes, dtype="float32", name="logits"))
    return model


def layer_widths(units: Any) -> list[int]:
    """The width of each layer: `units` is a number for one layer, or a list; raise InvalidInput."""
    widths = whole_numbers("units", units) if isinstance(units, list | tuple) else [whole_number("units", units)]
    if not widths:
        raise InvalidInput(
            "model_params.units is an empty list, but there must be a layer: give a number, or one for each layer."
        )
    return widths


def scale_inputs(model: keras.Sequential, kind: Any, scale: float) -> None:
    """Multiply the first kernel by which the lowest layer of a kind takes its inputs."""
    if positive("input_scale", scale) != 1:
        kernel = next(layer for layer in model.layers if isinstance(layer, kind)).cell.kernel
        kernel.assign(kernel * scale)


def open_orthogonal(units: int) -> np.ndarray:
    """An orthogonal [units, units] matrix for a state that goes through two open gates each step, made up for what these keep back."""
    gate = 1.0 / (1.0 + np.exp(-OPEN))
    return np.asarray(keras.initializers.Orthogonal()((units, units)), np.float32) / np.float32(gate**2)
