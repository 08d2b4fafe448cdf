"""Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000) as Keras has it."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from jobs.layers.parameters import choice, number, share, whole_number
from jobs.layers.recurrence import OPEN, open_orthogonal, scale_inputs, stack, steps_model

PARAMETERS = {
    "units": 128,
    "start": "constant",
    "forget_bias": 1.0,
    "longest": None,
    "input_scale": 1.0,
    "hidden": (),
    "dropout": 0.0,
}
STARTS = ("constant", "chrono", "simple")
EVERY_STEP = True
VECTORIZED = ("units", "hidden")


def build(
    input_shape: tuple[int, ...],
    classes: int,
    every_step: bool = False,
    *,
    units: int | Sequence[int] = 128,
    start: str = "constant",
    forget_bias: float = 1.0,
    longest: int | None = None,
    input_scale: float = 1.0,
    hidden: Sequence[int] = (),
    dropout: float = 0.0,
) -> keras.Model:
    """An LSTM layer for each of `units`, Dense relu layers for `hidden`, dropout, logits.

    Takes (steps, values), or images by rows; gives (batch, classes), or (batch, steps, classes) where `every_step`.
    `start` is how the gates' biases begin: `constant`, the forget gate's at `forget_bias` (1: Jozefowicz et al. 2015, and
    Keras' default), or `chrono` (Tallec and Ollivier 2018, equation 16): the forget gate's at log of U(1, `longest` - 1), the input
    gate's at the negative of that, for memories of up to `longest` steps (by default all steps of an example; twice the delay of generated bits);
    or `simple`: the forget gate shut, the others open, the candidate's recurrent kernel orthogonal, so that the layer begins as a simple
    recurrent one, which hands everything on. `input_scale` multiplies the first kernel of the lowest layer, as in `simple-rnn`.
    A layer of u units on v values has 4 (v + u + 1) u parameters.
    """
    kind = choice("start", start, STARTS)
    bias = number("forget_bias", forget_bias)
    model = steps_model("lstm", input_shape)
    memory = max(3, input_shape[0] if longest is None else whole_number("longest", longest))

    def layer(width: int, sequences: bool) -> Any:
        return layers.LSTM(width, return_sequences=sequences)

    stack(model, layer, units, hidden, share("dropout", dropout), classes, every_step)
    for each in model.layers:
        if isinstance(each, layers.LSTM):
            _begin(each, kind, bias, memory)
    scale_inputs(model, layers.LSTM, input_scale)
    return model


def _begin(layer: layers.LSTM, kind: str, forget_bias: float, longest: int) -> None:
    ones, zeros = np.ones(layer.units), np.zeros(layer.units)
    if kind == "constant":
        _set_gates(layer, zeros, forget_bias * ones, zeros)
    elif kind == "chrono":
        forget = _chrono(layer.units, longest)
        _set_gates(layer, -forget, forget, zeros)
    else:
        _set_gates(layer, OPEN * ones, -OPEN * ones, OPEN * ones)
        kernel = np.array(keras.ops.convert_to_numpy(layer.cell.recurrent_kernel))
        kernel[:, 2 * layer.units : 3 * layer.units] = open_orthogonal(layer.units)
        layer.cell.recurrent_kernel.assign(kernel)


def _chrono(units: int, longest: int) -> Any:
    # Seeded with Keras' own draws by the run's seed: the same on all workers.
    return np.log(np.random.uniform(1, longest - 1, units))


def _set_gates(layer: layers.LSTM, enter: Any, forget: Any, leave: Any) -> None:
    """Set the biases; Keras' order is input gate, forget gate, candidate, output gate."""
    layer.cell.bias.assign(np.concatenate([enter, forget, np.zeros(layer.units), leave]).astype(np.float32))
