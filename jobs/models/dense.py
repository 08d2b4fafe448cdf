"""Fully connected layers; without hidden ones it is softmax regression, the lecture's 92% baseline on MNIST."""

from collections.abc import Sequence

import keras
from keras import layers

from jobs.layers.parameters import choice, share, whole_numbers

PARAMETERS = {"hidden": (512,), "activation": "relu", "dropout": 0.0}
SOLVABLE = True
VECTORIZED = ("hidden",)


def build(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    hidden: Sequence[int] = (512,),
    activation: str = "relu",
    dropout: float = 0.0,
) -> keras.Model:
    """Flatten, then for each of `hidden` a Dense layer with `activation` and dropout, then logits.

    Takes arrays of any shape; gives (batch, classes). Has the sum of (inputs + 1) × outputs over the layers as parameters.
    """
    model = keras.Sequential([keras.Input(input_shape), layers.Flatten()], name="dense")
    name = choice("activation", activation, ("relu", "tanh", "sigmoid", "elu", "gelu", "selu", "silu"))
    rate = share("dropout", dropout)
    for units in whole_numbers("hidden", hidden):
        model.add(layers.Dense(units, activation=name))
        if rate:
            model.add(layers.Dropout(rate))
    model.add(layers.Dense(classes, dtype="float32", name="logits"))
    return model
