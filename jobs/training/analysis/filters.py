"""The first layer that has weights, as pictures: its filters, and what each makes of an example."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
MOST_FILTERS = 64
"""Shown at most (assumed: a screen of them)."""
MOST_PIXELS = 96
"""Pictures are no larger than that on a side; larger ones are thinned out."""
_PASSED_OVER = ("InputLayer", "Rescaling", "Flatten", "Dropout", "ZeroPadding2D", "Reshape", "GaussianNoise", "Normalization")


@dataclass(frozen=True)
class FirstLayer:
    """The layer, and its first weights as pictures of the input: [height, width, 1 or 3, at most MOST_FILTERS]."""

    layer: Any
    weights: NDArray[np.float32]

    @property
    def filters(self) -> int:
        """How many there are in all."""
        return int(self.layer.kernel.shape[-1])

    @property
    def convolves(self) -> bool:
        """Whether its output is a picture for each filter."""
        return isinstance(self.layer, keras.layers.Conv2D)


def first_layer(model: keras.Model, shape: Any) -> FirstLayer | str:
    """The first layer with weights of a model for images of `shape`; a sentence where its weights are no pictures."""
    if not is_picture(shape):
        return "The examples are not pictures of one or three channels."
    if not getattr(model, "inputs", None):
        return "The model's layers cannot be told apart: it is built while it is called."
    for layer in model.layers:
        if type(layer).__name__ in _PASSED_OVER and not layer.trainable_variables:
            continue
        kernel = getattr(layer, "kernel", None)
        if isinstance(layer, keras.layers.Conv2D) and kernel is not None and kernel.shape[2] == shape[2]:
            return FirstLayer(layer, _floats(kernel))
        if isinstance(layer, keras.layers.Dense) and kernel is not None and kernel.shape[0] == np.prod(shape):
            return FirstLayer(layer, _floats(kernel).reshape(*shape, -1))
        return f"The first layer with weights, {layer.name}, is a {type(layer).__name__}, whose weights are no pictures."
    return "The model's layers cannot be listed: it is built while it is called."


def is_picture(shape: Any) -> bool:
    """Whether one example is height × width × 1 or 3, both at least 2."""
    return isinstance(shape, tuple) and len(shape) == 3 and shape[2] in (1, 3) and min(shape[:2]) >= 2


def activations_model(model: keras.Model, layer: Any) -> keras.Model:
    """The model cut off after its first layer with weights; it shares the layer, and makes no variables."""
    inputs = model.inputs if len(model.inputs) > 1 else model.inputs[0]
    return keras.Model(inputs, layer.output)


def _floats(kernel: Any) -> NDArray[np.float32]:
    # What is not shown is not copied: of a dense layer on large pictures that may be gigabytes.
    return np.asarray(keras.ops.convert_to_numpy(kernel[..., :MOST_FILTERS]), np.float32)


def filter_pictures(weights: NDArray[np.float32]) -> Bytes:
    """Weights [h, w, 1 or 3, n] as pictures [n, h, w, 1 or 3]: grey is zero, white the largest size of any weight, black its negative.

    The scale is the 99.5th percentile of all sizes, so that one large weight does not turn the rest grey.
    """
    shown = weights[..., :MOST_FILTERS]
    scale = float(np.quantile(np.abs(shown), 0.995)) or 1.0
    return np.moveaxis(np.rint(127.5 + 127.5 * np.clip(shown / scale, -1, 1)).astype(np.uint8), -1, 0)


def activation_pictures(values: NDArray[np.float32]) -> Bytes:
    """Activations [h, w, n], or [n], as [n, h, w] of 0 to 255, from the lowest value (or zero) to the highest of all."""
    maps = values.reshape(1, 1, -1) if values.ndim == 1 else values
    shown = thinned(np.moveaxis(maps, -1, 0)[:MOST_FILTERS])
    low, high = min(0.0, float(shown.min())), float(shown.max())
    return np.rint(255 * (shown - low) / (high - low or 1.0)).astype(np.uint8)


def example_pictures(examples: NDArray[np.generic], scale: float) -> Bytes:
    """Examples [n, h, w, 1 or 3] as they are stored, as bytes; values that go below zero are spread from lowest to highest."""
    values = np.asarray(thinned(examples), np.float32) / scale
    if values.size and float(values.min()) < 0:
        values = (values - values.min()) / (float(values.max() - values.min()) or 1.0)
    return np.asarray(np.rint(255 * np.clip(values, 0, 1)), np.uint8)


def thinned(pictures: NDArray[Any]) -> NDArray[Any]:
    """Every k-th pixel of pictures [n, h, w, …], so that no side is longer than MOST_PIXELS."""
    step = -(-max(pictures.shape[1:3]) // MOST_PIXELS)
    return pictures[:, ::step, ::step]
