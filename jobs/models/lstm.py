"""Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000) as Keras has it."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from jobs.models.parameters import choice, number, share, whole_number
from jobs.models.recurrence import stack, steps_model


def build(
    input_shape: tuple[int, ...],
    classes: int,
    every_step: bool = False,
    *,
    units: int | Sequence[int] = 128,
    start: str = "constant",
    forget_bias: float = 1.0,
    longest: int | None = None,
    hidden: Sequence[int] = (),
    dropout: float = 0.0,
) -> keras.Model:
    """An LSTM layer for each of `units`, Dense relu layers for `hidden`, dropout, logits.

    Takes (steps, values), or images by rows; gives (batch, classes), or (batch, steps, classes) where `every_step`.
    `start` is how the gates' biases begin: `constant`, the forget gate's at `forget_bias` (1: Jozefowicz et al. 2015, and
    Keras' default), or `chrono` (Tallec and Ollivier 2018, equation 16): the forget gate's at log of U(1, `longest` - 1), the input
    gate's at the negative of that, for memories of up to `longest` steps (by default all steps of an example; twice the delay of generated bits).
    A layer of u units on v values has 4 (v + u + 1) u parameters.
    """
    kind = choice("start", start, ("constant", "chrono"))
    bias = number("forget_bias", forget_bias)
    model = steps_model("lstm", input_shape)
    memory = max(3, input_shape[0] if longest is None else whole_number("longest", longest))

    def layer(width: int, sequences: bool) -> Any:
        return layers.LSTM(width, return_sequences=sequences)

    stack(model, layer, units, hidden, share("dropout", dropout), classes, every_step)
    for each in model.layers:
        if isinstance(each, layers.LSTM):
            forget = np.full(each.units, bias) if kind == "constant" else _chrono(each.units, memory)
            _set_gates(each, -forget if kind == "chrono" else np.zeros(each.units), forget)
    return model


def _chrono(units: int, longest: int) -> Any:
    # Seeded with Keras' own draws by the run's seed: the same on all workers.
    return np.log(np.random.uniform(1, longest - 1, units))


def _set_gates(layer: layers.LSTM, enter: Any, forget: Any) -> None:
    """Set the biases; Keras' order is input gate, forget gate, candidate, output gate."""
    zeros = np.zeros(layer.units)
    layer.cell.bias.assign(np.concatenate([enter, forget, zeros, zeros]).astype(np.float32))
