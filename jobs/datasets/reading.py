"""The examples of a split one after another, in an order that is known before: out of memory, or streamed."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Columns = dict[str, NDArray[Any]]


class Reader(Protocol):
    """Gives the examples of an order piece by piece."""

    def take(self, examples: Indices) -> Columns:
        """The next examples of the order: features by name, and `label`."""

    def close(self) -> None:
        """Let go of what was read ahead."""


class MemoryReader:
    """Picks examples out of arrays, in any order."""

    def __init__(self, features: Mapping[str, NDArray[Any]], labels: NDArray[np.int32]) -> None:
        self._arrays = {**features, "label": labels}

    def take(self, examples: Indices) -> Columns:
        """Features [examples, …] by name, and `label` [examples]."""
        return {name: array[examples] for name, array in self._arrays.items()}

    def close(self) -> None:
        """Nothing was read ahead."""


def example_bytes(features: Mapping[str, NDArray[Any]]) -> int:
    """The size of one example's features; nothing is read for it."""
    return sum(array.dtype.itemsize * math.prod(array.shape[1:]) for array in features.values())


class StreamedColumns(dict[str, Any]):
    """In the place of a split's arrays by name: what reads them in an order streams them; `open_reader` tells the two apart."""

    def __init__(self, columns: Mapping[str, Any], stream: Callable[[Iterator[Indices]], Reader]) -> None:
        super().__init__(columns)
        self.stream = stream


def open_reader(features: Mapping[str, NDArray[Any]], labels: NDArray[np.int32], orders: Iterator[Indices]) -> Reader:
    """Read the examples of `orders`, one order after another."""
    if isinstance(features, StreamedColumns):
        return features.stream(orders)
    return MemoryReader(features, labels)
