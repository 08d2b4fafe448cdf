"""A model's layers as a table: output shapes, parameters, and the arithmetic by which each follows."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from service.records.run_record import Document

Shape = tuple[int | None, ...]
Parts = tuple[str, int]
"""A formula and its value."""
DEPTH = 3
"""Models within models are shown so deep (assumed: deeper ones are tables of their own)."""


def layer_rows(model: keras.Model, depth: int = 0) -> list[Document]:
    """A row for each layer in order: `name`, `kind`, `depth`, `output` (28×28×32, or None), `how`, `parameters`, `formula`.

    `how` and `formula` are empty where no rule is known; a formula stands only where it gives the layer's own count.
    """
    rows = []
    for layer in model.layers:
        rows.append(_row(layer, depth))
        if isinstance(layer, keras.Model) and depth < DEPTH:
            rows += layer_rows(layer, depth + 1)
    return rows


def _row(layer: Any, depth: int) -> Document:
    took, gave = _shape_of(layer, "input"), _shape_of(layer, "output")
    count = int(layer.count_params()) if layer.built else 0
    formula, value = _formula(layer, took)
    return {
        "name": layer.name,
        "kind": type(layer).__name__,
        "depth": depth,
        "output": None if gave is None else times(gave),
        "how": _how(layer, took, gave),
        "parameters": count,
        "trained": int(sum(np.prod(variable.shape) for variable in layer.trainable_variables)),
        "formula": f"{formula} = {count:,}" if count and value == count else "",
    }


def times(shape: Shape) -> str:
    """`28×28×1`; a length that is not fixed is a question mark."""
    return "×".join("?" if length is None else str(length) for length in shape)


def _shape_of(layer: Any, side: str) -> Shape | None:
    """The shape of one example going in or out, where the layer has exactly one."""
    try:
        shape = getattr(layer, side).shape
    except (AttributeError, ValueError, RuntimeError):
        return None
    return tuple(None if length is None else int(length) for length in shape)[1:]


def _rule(layer: Any, rules: dict[str, Callable[..., Any]]) -> Callable[..., Any] | None:
    """The rule of Keras' own classes and Delayline's: a user's own class may count differently."""
    kind = type(layer)
    return rules.get(kind.__name__) if kind.__module__.startswith(("keras.", "jobs.models.", "jobs.layers.")) else None


def _how(layer: Any, took: Shape | None, gave: Shape | None) -> str:
    rule = _rule(layer, _SHAPES)
    if rule is None or took is None or gave is None or getattr(layer, "data_format", None) == "channels_first":
        return "" if took is None or gave is None else f"{times(took)} → {times(gave)}"
    return str(rule(layer, took, gave))


def _convolution(layer: Any, took: Shape, gave: Shape) -> str:
    window = f"{layer.filters} filters {times(layer.kernel_size)}"
    effective = [(size - 1) * rate + 1 for size, rate in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    dilation = f", dilation {times(layer.dilation_rate)}" if effective != list(layer.kernel_size) else ""
    return _windowed(f"{times(took)}, {window}", dilation, effective, layer, took, gave)


def _pooling(layer: Any, took: Shape, gave: Shape) -> str:
    return _windowed(f"{times(took)}, pooling {times(layer.pool_size)}", "", list(layer.pool_size), layer, took, gave)


def _windowed(begin: str, extra: str, window: list[int], layer: Any, took: Shape, gave: Shape) -> str:
    strides = list(layer.strides)
    stride = f", stride {times(tuple(strides))}" if any(step != 1 for step in strides) else ""
    sums = dict.fromkeys(
        _length(size, width, step, layer.padding) for size, width, step in zip(took[:-1], window, strides, strict=True)
    )
    values = [_value(size, width, step, layer.padding) for size, width, step in zip(took[:-1], window, strides, strict=True)]
    shown = [text for text in sums if text] if values == list(gave[:-1]) else []
    arithmetic = f": {', '.join(shown)}" if shown else ""
    return f"{begin}, {layer.padding} padding{stride}{extra}{arithmetic} → {times(gave)}"


def _length(size: int | None, window: int, stride: int, padding: str) -> str:
    """How a length follows; nothing where it stays as it is by the padding alone."""
    value = _value(size, window, stride, padding)
    if size is None or padding not in ("same", "valid") or (padding == "same" and stride == 1):
        return ""
    if padding == "same":
        return f"⌈{size}/{stride}⌉ = {value}"
    return f"{size} − {window} + 1 = {value}" if stride == 1 else f"⌊({size} − {window})/{stride}⌋ + 1 = {value}"


def _value(size: int | None, window: int, stride: int, padding: str) -> int | None:
    if size is None:
        return None
    return -(-size // stride) if padding in ("same", "causal") else (size - window) // stride + 1


def _flatten(layer: Any, took: Shape, gave: Shape) -> str:
    product = "·".join("?" if length is None else str(length) for length in took)
    return f"{times(took)}: {product} = {times(gave)}" if len(took) > 1 else f"{times(took)} → {times(gave)}"


def _dense(layer: Any, took: Shape, gave: Shape) -> str:
    return f"{times(took)}, {layer.units} units → {times(gave)}"


def _global_pooling(layer: Any, took: Shape, gave: Shape) -> str:
    what = "maximum" if "Max" in type(layer).__name__ else "mean"
    return f"{times(took)}, one {what} for each of {took[-1]} channels → {times(gave)}"


def _unchanged(layer: Any, took: Shape, gave: Shape) -> str:
    return f"each value by itself: {times(gave)} as before"


def _dropout(layer: Any, took: Shape, gave: Shape) -> str:
    return f"{layer.rate:.0%} of the values set to 0 in training: {times(gave)} as before"


def _recurrent(layer: Any, took: Shape, gave: Shape) -> str:
    kept = "every state" if layer.return_sequences else "the last state"
    return f"{times(took)}, {layer.units} units, {kept} → {times(gave)}"


def _context(layer: Any, took: Shape, gave: Shape) -> str:
    fed = "its own states" if type(layer).__name__ == "ElmanContext" else "its own answers"
    kept = "every answer" if layer.every_step else "the last answer"
    return f"{times(took)}, {layer.units} units that see {fed}, {kept} → {times(gave)}"


_SHAPES: dict[str, Callable[..., str]] = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), _convolution),
    **{f"{kind}Pooling{n}D": _pooling for kind in ("Max", "Average") for n in (1, 2, 3)},
    **{f"Global{kind}Pooling{n}D": _global_pooling for kind in ("Max", "Average") for n in (1, 2, 3)},
    "Flatten": _flatten,
    "Dense": _dense,
    "Dropout": _dropout,
    **dict.fromkeys(
        ("ReLU", "Activation", "LeakyReLU", "ELU", "Softmax", "BatchNormalization", "LayerNormalization"), _unchanged
    ),
    **dict.fromkeys(("Rescaling", "GaussianNoise"), _unchanged),
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN"), _recurrent),
    **dict.fromkeys(("ElmanContext", "JordanContext"), _context),
}


def _formula(layer: Any, took: Shape | None) -> Parts:
    rule = _rule(layer, _FORMULAS)
    if rule is None or took is None or not took or took[-1] is None:
        return "", -1
    formula, value = rule(layer, took[-1])
    return str(formula), int(value)


def _weighted(factors: list[int], outputs: int, bias: bool) -> Parts:
    """So many weights, and perhaps a bias, for each of `outputs`."""
    product = "·".join(map(str, factors))
    inner = f"({product} + 1)" if bias else product
    return f"{inner}·{outputs}", (int(np.prod(factors)) + int(bias)) * outputs


def _convolution_formula(layer: Any, channels: int) -> Parts:
    return _weighted([*layer.kernel_size, channels // getattr(layer, "groups", 1)], layer.filters, layer.use_bias)


def _depthwise_formula(layer: Any, channels: int) -> Parts:
    return _weighted(list(layer.kernel_size), channels * layer.depth_multiplier, layer.use_bias)


def _dense_formula(layer: Any, inputs: int) -> Parts:
    return _weighted([inputs], layer.units, layer.use_bias)


def _batch_normalisation_formula(layer: Any, channels: int) -> Parts:
    vectors = 2 + int(layer.scale) + int(layer.center)
    return f"{vectors}·{channels}", vectors * channels


def _layer_normalisation_formula(layer: Any, channels: int) -> Parts:
    vectors = int(layer.scale) + int(layer.center)
    return f"{vectors}·{channels}", vectors * channels


def _embedding_formula(layer: Any, _: int) -> Parts:
    return f"{layer.input_dim}·{layer.output_dim}", layer.input_dim * layer.output_dim


def _lstm_formula(layer: Any, inputs: int) -> Parts:
    bias = int(layer.use_bias)
    return _gated(4, inputs, layer.units, bias)


def _gru_formula(layer: Any, inputs: int) -> Parts:
    return _gated(3, inputs, layer.units, (2 if layer.reset_after else 1) if layer.use_bias else 0)


def _simple_formula(layer: Any, inputs: int) -> Parts:
    return _gated(1, inputs, layer.units, int(layer.use_bias))


def _elman_formula(layer: Any, inputs: int) -> Parts:
    return _gated(1, inputs, layer.units, 1)


def _jordan_formula(layer: Any, inputs: int) -> Parts:
    formula, count = _gated(1, inputs, layer.units, 1, layer.classes)
    return f"{formula} + ({layer.units} + 1)·{layer.classes}", count + (layer.units + 1) * layer.classes


def _gated(gates: int, inputs: int, units: int, biases: int, context: int | None = None) -> Parts:
    """`context`: how many values of the step before are seen, where it is not as many as there are units."""
    seen = units if context is None else context
    inner = f"({inputs} + {seen} + {biases})" if biases else f"({inputs} + {seen})"
    return f"{f'{gates}·' if gates > 1 else ''}{inner}·{units}", gates * (inputs + seen + biases) * units


_FORMULAS: dict[str, Callable[..., Parts]] = {
    **dict.fromkeys(
        ("Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _convolution_formula
    ),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise_formula),
    "Dense": _dense_formula,
    "BatchNormalization": _batch_normalisation_formula,
    "LayerNormalization": _layer_normalisation_formula,
    "Embedding": _embedding_formula,
    "LSTM": _lstm_formula,
    "GRU": _gru_formula,
    "SimpleRNN": _simple_formula,
    "ElmanContext": _elman_formula,
    "JordanContext": _jordan_formula,
}
