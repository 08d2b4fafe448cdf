"""A split that is larger than memory: its examples come through Ray Data, in the order in which training asks for them.

A Ray Data dataset is made of the order itself: each of its read tasks picks one part, some megabytes of examples in
their final order, out of the node's cache of shards, and Ray Data keeps the parts in order and a few of them ahead.
So a stream begins at any example, each worker reads its own examples only, and memory holds a few parts.
Read tasks ask for no CPU, because the training workers hold all of them, and run on the worker's own node,
where its cache is.
"""

import functools
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jobs.datasets.reading import Columns, Indices
from service.datasets import Cache, Manifest, ShardRows, find_dataset
from service.datasets.rows import row_ends
from service.errors import DelaylineError, InfrastructureFailure
from service.settings import Settings
from service.storage import open_store

if TYPE_CHECKING:
    import pyarrow as pa

PART_BYTES = 4 * 1024**2
"""What one read task gives (assumed: many fit into a local cluster's 80 MB object store, and a task costs little beside it)."""
PART_ROWS = 8192
"""At most so many examples a part: their numbers travel with the task, by way of the object store."""
AHEAD_BYTES = 256 * 1024**2
"""Shards are fetched when training is that far from them (assumed: longer than a shard takes from a store)."""
PARTS_A_DATASET = 256
"""Ray Data is given the order in stretches of so many parts, because it puts all of a dataset's tasks into the object
store before the first (derived: 8 MB with PART_ROWS; beginning a stretch takes 0.2 s, measured on 2 cores)."""
WAIT_SECONDS = 1800.0
"""How long the next part may take (assumed: as long as another process may fill the cache)."""

Check = Callable[[NDArray[np.int32], int, Indices], None]
"""Raises BadData for a wrong label; called with the labels, the number of classes and the numbers of the examples."""

Read = Callable[[Sequence[Callable[[], "list[pa.Table]"]], Sequence[int], int], "Iterator[pa.Table]"]
"""Runs functions in their order, given how many rows each gives and how large a row is."""


@dataclass(frozen=True)
class SplitSource:
    """Which split to read, and from where; plain values, no secrets: it travels to the read tasks."""

    store: str
    patience: float
    reference: str
    split: str
    cache: Path
    cache_bytes: int

    def open(self) -> ShardRows:
        """The split's rows; credentials come from this process's own environment."""
        store = open_store(Settings.load(store=self.store), patience=self.patience)
        return ShardRows(store, find_dataset(store, self.reference), self.split, Cache(self.cache, self.cache_bytes))


@functools.lru_cache(maxsize=4)
def _opened(source: SplitSource) -> ShardRows:
    """Kept for the next task of this process."""
    return source.open()


def read_part(source: SplitSource, rows: NDArray[np.integer[Any]], ahead: list[int]) -> "list[pa.Table]":
    """What a read task does: the rows as one table, in their order; `ahead` are shards that will be needed later."""
    from service.datasets.shards import to_table

    opened = _opened(source)
    columns = opened.take(rows.astype(np.int64))
    opened.prefetch(ahead)
    labels = columns.pop("label")
    return [to_table(opened.features, columns, labels)]


def cut_into_parts(orders: Iterator[Indices], rows: int) -> Iterator[Indices]:
    """The rows of all orders in parts of `rows`; the last one may be shorter."""
    rest: Indices = np.empty(0, np.int64)
    for order in orders:
        rest = np.concatenate([rest, order])
        whole = len(rest) - len(rest) % rows
        yield from np.split(rest[:whole], range(rows, whole, rows)) if whole else ()
        rest = rest[whole:]
    if len(rest):
        yield rest


class RowStream:
    """Takes the rows of an order one after another; a thread has the next part ready."""

    def __init__(
        self,
        source: SplitSource,
        manifest: Manifest,
        orders: Iterator[Indices],
        check: Check | None = None,
        read: Read | None = None,
    ) -> None:
        """`check` is called with what is taken; `read` runs the read tasks, by default Ray Data."""
        self._source = source
        self._features = manifest.features
        self._classes = manifest.classes
        self._check = check
        self._read = read
        self._example_bytes = manifest.example_bytes
        self._ends = row_ends(manifest, source.split)
        self._parts = cut_into_parts(orders, max(1, min(PART_ROWS, PART_BYTES // self._example_bytes)))
        self._tables = self._stream()
        self._rest: deque[pa.Table] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="stream")
        self._coming: Future[pa.Table | None] = self._pool.submit(next, self._tables, None)

    def take(self, examples: Indices) -> Columns:
        """The next examples: features [examples, …] by name, and `label`, int32 [examples]."""
        from service.datasets.shards import copy_table

        kinds = {f.name: (np.dtype(f.dtype), f.shape) for f in self._features}
        taken: Columns = {name: np.empty((len(examples), *shape), dtype) for name, (dtype, shape) in kinds.items()}
        labels = np.empty(len(examples), np.int32)
        first = 0
        while first < len(examples):
            table = self._next(len(examples) - first)
            piece = {name: array[first : first + table.num_rows] for name, array in taken.items()}
            copy_table(table, self._features, piece, labels[first : first + table.num_rows])
            first += table.num_rows
        if self._check is not None:
            self._check(labels, len(self._classes), examples)
        return {**taken, "label": labels}

    def close(self) -> None:
        """Stop the read tasks."""
        self._pool.submit(self._tables.close)
        self._pool.shutdown(wait=False)

    def _next(self, most: int) -> "pa.Table":
        if not self._rest:
            self._rest.append(self._receive())
        table = self._rest.popleft()
        if table.num_rows > most:
            self._rest.appendleft(table.slice(most))
        return table.slice(0, most)

    def _receive(self) -> "pa.Table":
        try:
            table = self._coming.result(WAIT_SECONDS)
        except FutureTimeout as error:
            raise InfrastructureFailure(f"The readers gave no examples for {WAIT_SECONDS:g} s.") from error
        except Exception as error:
            raise _own(error) from error
        if table is None:
            raise IndexError("the order has no more examples")
        self._coming = self._pool.submit(next, self._tables, None)
        return table

    def _stream(self) -> "Generator[pa.Table, None, None]":
        from jobs.datasets.ordered_reads import read_in_order

        read = self._read or read_in_order
        ahead = max(1, AHEAD_BYTES // PART_BYTES)
        waiting: deque[Indices] = deque()
        while True:
            while len(waiting) < PARTS_A_DATASET + ahead and (part := next(self._parts, None)) is not None:
                waiting.append(part)
            if not waiting:
                return
            parts = list(waiting)
            now = parts[:PARTS_A_DATASET]
            small = np.min_scalar_type(int(self._ends[-1]))
            tasks = [
                functools.partial(
                    read_part, self._source, part.astype(small), self._shards_of(parts[min(index + ahead, len(parts) - 1)])
                )
                for index, part in enumerate(now)
            ]
            yield from read(tasks, [len(part) for part in now], self._example_bytes)
            for _ in now:
                waiting.popleft()

    def _shards_of(self, rows: Indices) -> list[int]:
        return [int(number) for number in np.unique(np.searchsorted(self._ends, rows, side="right"))]


def _own(error: BaseException) -> BaseException:
    """Return the error that a read task raised: Delayline's own, out of what Ray wraps around it."""
    found: BaseException | None = error
    while found is not None:
        inner = getattr(found, "cause", None)
        for candidate in (found, inner):
            if isinstance(candidate, DelaylineError):
                return type(candidate)(*candidate.args)
        found = inner if isinstance(inner, BaseException) else found.__cause__
    return error


class StreamedColumn:
    """One array of a split that is not loaded: what is indexed is read, by this process itself."""

    def __init__(self, rows: ShardRows, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        self._rows = rows
        self._name = name
        self.dtype = np.dtype(dtype)
        self.shape = (len(rows), *shape)
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Rows by number, by a slice, or by an array of numbers or of truth values."""
        rows = np.arange(len(self))[index]
        picked = self._rows.take(np.atleast_1d(rows))[self._name]
        return picked if np.ndim(rows) else picked[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All rows: for columns as small as labels."""
        return self[:].astype(dtype or self.dtype, copy=False)


def streamed_columns(rows: ShardRows, manifest: Manifest) -> Mapping[str, StreamedColumn]:
    """The features by name, and `label`."""
    kinds = [*((f.name, f.dtype, f.shape) for f in manifest.features), ("label", "int32", ())]
    return {name: StreamedColumn(rows, name, dtype, tuple(shape)) for name, dtype, shape in kinds}
