"""The convolutional network of the lecture (IADS 2022, Lecture 4, MNIST CNN): 454,922 parameters on MNIST."""

from collections.abc import Sequence

import keras
from keras import layers

from jobs.layers.parameters import flag, image_shape, share, whole_number, whole_numbers

PARAMETERS = {"filters": (32, 64), "kernel": 5, "units": 128, "dropout": 0.25, "batch_norm": False}
SOLVABLE = True


def build(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    filters: Sequence[int] = (32, 64),
    kernel: int = 5,
    units: int = 128,
    dropout: float = 0.25,
    batch_norm: bool = False,
) -> keras.Model:
    """Conv 5×5 same relu and 2×2 max-pooling for each of `filters`, Dense `units` relu, dropout, logits.

    `batch_norm` puts batch normalisation (Ioffe and Szegedy 2015) between each convolution and its relu.

    Takes images (height, width, channels) in 0 to 1; gives (batch, classes). Has, for filters (a, b) and kernel k,
    a(k²c+1) + b(k²a+1) + u(⌊h/4⌋⌊w/4⌋b+1) + classes(u+1) parameters, and 4(a+b) more with `batch_norm`.
    """
    shape = image_shape("cnn", input_shape)
    model = keras.Sequential([keras.Input(shape)], name="cnn")
    size, normalised = whole_number("kernel", kernel), flag("batch_norm", batch_norm)
    height, width = shape[:2]
    for count in whole_numbers("filters", filters):
        if normalised:
            model.add(layers.Conv2D(count, size, padding="same"))
            model.add(layers.BatchNormalization())
            model.add(layers.Activation("relu"))
        else:
            model.add(layers.Conv2D(count, size, padding="same", activation="relu"))
        # An image of one pixel's height or width has nothing left to pool.
        if min(height, width) >= 2:
            model.add(layers.MaxPooling2D(2))
            height, width = height // 2, width // 2
    model.add(layers.Flatten())
    model.add(layers.Dense(whole_number("units", units), activation="relu"))
    model.add(layers.Dropout(share("dropout", dropout)))
    model.add(layers.Dense(classes, dtype="float32", name="logits"))
    return model
