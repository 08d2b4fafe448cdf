"""Whether a model begins with a scaling of its own, in whatever form: read off the graph of its operations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef

_MOVED = frozenset(
    {
        "Cast", "ClipByValue", "ConcatV2", "ExpandDims", "GatherV2", "Identity", "Maximum", "Minimum", "MirrorPad", "Pack", "Pad", "PadV2",
        "Reshape", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor", "ReverseV2", "Slice", "Squeeze", "StopGradient",
        "StridedSlice", "Tile", "Transpose",
    }
)  # fmt: skip
"""Operations that move pixels and keep their values, or nearly."""
_ALL_INPUTS = frozenset({"ConcatV2", "Maximum", "Minimum", "Pack"})
"""Those of them that may have them at any input; the others at the first."""
_SHIFTS = frozenset({"Add", "AddV2", "BiasAdd"})
_FOLDED: dict[str, Callable[..., Any]] = {
    "Identity": lambda x: x,
    "Cast": lambda x: x,
    "Reshape": lambda x: x,
    "Squeeze": lambda x: x,
    "Sqrt": np.sqrt,
    "Rsqrt": lambda x: 1 / np.sqrt(x),
    "Reciprocal": lambda x: 1 / x,
    "Maximum": np.maximum,
    "AddV2": np.add,
    "Mul": np.multiply,
    "RealDiv": np.divide,
}
"""How operations on constants are worked out."""
_OF_TWO = frozenset({"AddV2", "Maximum", "Mul", "RealDiv"})


@dataclass(frozen=True)
class Scaled:
    """What a model makes of an input x at once: `factor` x + `offset`, the means over the channels."""

    factor: float
    offset: float
    operation: str
    """The name of the one that gives it."""
    scaling: str = ""
    """The name of the last one that changed the values."""


def first_scalings(graph: bytes, places: Mapping[str, str]) -> dict[str, list[Scaled]]:
    """By feature, what the model makes of it before its first operation that is no scaling.

    `graph` is a GraphDef, `places` the names of its placeholders by feature.
    """
    nodes = {node.name: node for node in GraphDef.FromString(graph).node}
    consumers: dict[str, list[Any]] = {}
    for node in nodes.values():
        for name in dict.fromkeys(map(_source, node.input)):
            consumers.setdefault(name, []).append(node)
    return {feature: _follow(place, nodes, consumers) for feature, place in places.items() if place in nodes}


def _follow(place: str, nodes: dict[str, Any], consumers: dict[str, list[Any]]) -> list[Scaled]:
    found, seen, waiting = [], {place}, [Scaled(1.0, 0.0, place)]
    while waiting:
        state = waiting.pop()
        ends = False
        for node in consumers.get(state.operation, []):
            after = _applied(state, node, nodes)
            ends |= after is None and node.op != "Shape"
            if after is not None and after.operation not in seen:
                seen.add(after.operation)
                waiting.append(after)
        if ends:
            found.append(state)
    return found


def _applied(state: Scaled, node: Any, nodes: dict[str, Any]) -> Scaled | None:
    """The state after an operation; None for one that is no scaling."""
    sources = [_source(name) for name in node.input]
    if node.op in _MOVED:
        own = node.op in _ALL_INPUTS or sources[0] == state.operation
        return replace(state, operation=node.name) if own else None
    if len(sources) != 2 or sources[0] == sources[1]:
        return None
    first = sources[0] == state.operation
    constant = _constant(sources[1] if first else sources[0], nodes)
    if constant is None or not np.all(np.isfinite(constant)):
        return None
    value = float(np.mean(constant))
    factor, offset = state.factor, state.offset
    if node.op == "Mul":
        factor, offset = factor * value, offset * value
    elif node.op == "RealDiv" and first and value:
        factor, offset = factor / value, offset / value
    elif node.op in _SHIFTS:
        offset += value
    elif node.op == "Sub":
        factor, offset = (factor, offset - value) if first else (-factor, value - offset)
    else:
        return None
    return Scaled(factor, offset, node.name, node.name)


def _constant(name: str, nodes: dict[str, Any], depth: int = 10) -> Any:
    """The values of a node that follows from constants alone, else None."""
    node = nodes.get(name)
    if node is None or depth == 0:
        return None
    if node.op == "Const":
        value = tf.make_ndarray(node.attr["value"].tensor)
        return value.astype(np.float64) if value.dtype.kind in "iuf" or value.dtype.name == "bfloat16" else None
    if node.op not in _FOLDED:
        return None
    values = [_constant(_source(each), nodes, depth - 1) for each in node.input]
    # The second input of those that move values is a shape, which is not asked for.
    needed = values if node.op in _OF_TWO else values[:1]
    return None if not needed or any(value is None for value in needed) else _FOLDED[node.op](*needed)


def _source(name: str) -> str:
    return name.partition(":")[0].lstrip("^")
