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
        """Free what was read ahead."""


class MemoryReader:
    """Picks examples out of arrays, in any order."""

    def __init__(self, features: Mapping[str, NDArray[Any]], labels: NDArray[np.int32]) -> None:
        self._arrays = {**features, "label": labels}

    def take(self, examples: Indices) -> Columns:
        """Features [examples, …] by name, and `label` [examples]."""
        return {name: array[examples] for name, array in self._arrays.items()}

    def close(self) -> None:
        """Free nothing: nothing was read ahead."""


def example_bytes(features: Mapping[str, NDArray[Any]]) -> int:
    """Return the bytes of one example's features, without reading any."""
    return sum(array.dtype.itemsize * math.prod(array.shape[1:]) for array in features.values())


class StreamedColumns(dict[str, Any]):
    """In the place of a split's arrays by name: what reads them in an order streams them; `open_reader` tells the two apart."""

    def __init__(self, columns: Mapping[str, Any], stream: Callable[[Iterator[Indices]], Reader]) -> None:
        super().__init__(columns)
        self.stream = stream


class FreshColumns(dict[str, Any]):
    """In the place of a training split's arrays: those of epoch 0, and `draw(epoch)` for the arrays of any, `label` among them."""

    def __init__(self, columns: Mapping[str, Any], draw: Callable[[int], Columns]) -> None:
        super().__init__(columns)
        self.draw = draw


class FreshReader:
    """Picks examples out of arrays that are drawn anew for each epoch; each order is an epoch's, the first one `epoch`'s."""

    def __init__(self, draw: Callable[[int], Columns], orders: Iterator[Indices], epoch: int) -> None:
        self._draw = draw
        self._orders = orders
        self._next_epoch = epoch
        self._left = 0
        self._arrays: Columns = {}

    def take(self, examples: Indices) -> Columns:
        """The next examples of the order, all of one epoch; see MemoryReader."""
        while self._left == 0:
            self._left = len(next(self._orders))
            self._arrays = self._draw(self._next_epoch)
            self._next_epoch += 1
        self._left -= len(examples)
        return {name: array[examples] for name, array in self._arrays.items()}

    def close(self) -> None:
        """Free nothing: nothing was read ahead."""


def open_reader(
    features: Mapping[str, NDArray[Any]], labels: NDArray[np.int32], orders: Iterator[Indices], epoch: int | None = None
) -> Reader:
    """Read the examples of `orders`, one order after another.

    `epoch` is the one that the first order trains; without it the examples are read as they stand, to evaluate.
    """
    if isinstance(features, StreamedColumns):
        return features.stream(orders)
    if isinstance(features, FreshColumns) and epoch is not None:
        return FreshReader(features.draw, orders, epoch)
    return MemoryReader(features, labels)
