"""What the hidden units of the recurrent layers hold while one example passes through."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from jobs.layers.context import Context
from jobs.training.replica import Replica
from service.records.run_record import Document

MOST_UNITS = 256
MOST_STEPS = 512
"""Of a layer, shown at most (assumed: the pixels of a page's width)."""


@dataclass(frozen=True)
class States:
    """The first units of a layer over the first steps of one example: [steps, units]."""

    name: str
    kind: str
    units: int
    steps: int
    values: NDArray[np.float32]

    def document(self) -> Document:
        """All but the values, and how far they reach."""
        reach = float(np.abs(self.values).max(initial=0.0))
        return {"name": self.name, "kind": self.kind, "units": self.units, "steps": self.steps, "reach": round(reach, 6)}

    def picture(self) -> NDArray[np.uint8]:
        """[units, steps]: 128 is zero, 255 the largest size of any value, 1 its negative."""
        reach = float(np.abs(self.values).max(initial=0.0)) or 1.0
        return np.asarray(np.rint(128 + 127 * self.values.T / reach), np.uint8)


def hidden_states(replica: Replica, example: Mapping[str, NDArray[np.generic]]) -> list[States]:
    """The states of each recurrent layer for one example, features [1, …] by name; none where a model's layers cannot be listed.

    Every worker takes part.
    """
    found = []
    for layer in recurrent_layers(replica.model):
        forward = replica.once(_forward_states, layer)
        values = forward(example)[0]
        steps, units = values.shape
        kept = values[:MOST_STEPS, :MOST_UNITS]
        found.append(States(layer.name, type(layer).__name__.removesuffix("Context"), units, steps, kept))
    return found


def recurrent_layers(model: keras.Model) -> list[Any]:
    """Keras' own recurrent layers and those made by hand, of a model of which each layer's input is known."""
    return [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.SimpleRNN | keras.layers.LSTM | keras.layers.GRU | Context) and _has_input(layer)
    ]


def _has_input(layer: Any) -> bool:
    try:
        return layer.input is not None
    except (AttributeError, ValueError):
        return False


def _forward_states(replica: Replica, layer: Any) -> Callable[..., NDArray[np.float32]]:
    return replica.forward(_states_of(replica.model, layer))


def _states_of(model: keras.Model, layer: Any) -> Callable[..., Any]:
    """A function from the model's inputs to [batch, steps, units]; it shares the layer's cell, and makes no variables."""
    inputs = model.inputs if len(model.inputs) > 1 else model.inputs[0]
    before = keras.Model(inputs, layer.input)
    every = layer.states if isinstance(layer, Context) else keras.layers.RNN(layer.cell, return_sequences=True)
    return lambda values, training: every(before(values, training=training))
