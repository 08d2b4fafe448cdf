"""The space in which the optimizer works: the model's weights themselves, or targets from which the weights follow."""

from collections.abc import Callable
from typing import Any, Protocol

import keras

__all__ = ["PullBack", "Space", "WeightSpace"]

PullBack = Callable[[list[Any]], list[Any]]
"""Turns the loss's gradients by the model's trainable variables into those by the space's variables."""


class Space(Protocol):
    """What the optimizer changes, and how the model's weights follow from it."""

    variables: list[keras.Variable]
    """What the optimizer changes."""
    kept: list[keras.Variable]
    """Those of them that are not the model's: a checkpoint holds them beside it."""

    def begin(self) -> None:
        """Give the variables their first values, now that the model has its first weights."""

    def realise(self) -> PullBack:
        """Give the model the weights that follow from the variables; return the way back for gradients."""

    def forward(self, inputs: Any, training: bool) -> Any:
        """What the model gives for a batch of inputs, with the weights that it has."""


class WeightSpace:
    """The optimizer changes the model's weights: nothing has to be realised."""

    def __init__(self, model: keras.Model) -> None:
        self.variables: list[keras.Variable] = list(model.trainable_variables)
        self.kept: list[keras.Variable] = []
        self._model = model

    def begin(self) -> None:
        """The first weights are there."""

    def realise(self) -> PullBack:
        """Nothing follows: the gradients are the variables' own."""
        return lambda gradients: gradients

    def forward(self, inputs: Any, training: bool) -> Any:
        """The model's own call."""
        return self._model(inputs, training=training)
