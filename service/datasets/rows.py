"""Single rows of a split by their numbers, shard by shard out of the node's cache: memory holds what is asked for."""

import mmap
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.datasets.cache import Cache, Columns
from service.datasets.load import load_shards
from service.datasets.manifest import Manifest
from service.storage.base import Store

OPEN_SHARDS = 96
"""Mapped at a time and so kept in the cache (derived: two windows of the shuffle, 1 GiB each, in shards of 24 MiB)."""
FETCHERS = 2
"""Shards that are fetched and decoded side by side, about 50 MB of memory each (assumed)."""


class ShardRows:
    """The examples of one split that is not loaded whole.

    Each shard is an entry of the cache: fetched once a node, its sha256 compared, decoded, and dropped when the cache
    is full and nobody reads it. What is read leaves this process's memory at once; the system keeps it as file pages.
    """

    def __init__(self, store: Store, manifest: Manifest, split: str, cache: Cache) -> None:
        self._store = store
        self._manifest = manifest
        self.features = manifest.features
        self._cache = cache
        self._shards = [shard for shard in manifest.shards if shard.split == split]
        self._ends = row_ends(manifest, split)
        self._open: OrderedDict[int, Future[Columns]] = OrderedDict()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(FETCHERS, thread_name_prefix="shards")

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """Features [rows, *shape] by name and `label`, int32 [rows], in the order of `rows`.

        Raise Damaged where a shard is missing or its checksum differs from the manifest.
        """
        kinds = [("label", np.dtype(np.int32), ()), *((f.name, np.dtype(f.dtype), f.shape) for f in self.features)]
        taken: Columns = {name: np.empty((len(rows), *shape), dtype) for name, dtype, shape in kinds}
        shard_of = np.searchsorted(self._ends, rows, side="right")
        by_shard = np.argsort(shard_of, kind="stable")
        numbers, firsts = np.unique(shard_of[by_shard], return_index=True)
        groups = np.split(by_shard, firsts[1:])[: len(numbers)]
        for index, (number, places) in enumerate(zip(numbers, groups, strict=True)):
            for following in numbers[index : index + FETCHERS + 1]:
                self._request(int(following))
            columns = self._columns(int(number))
            start = self._ends[number] - self._shards[number].rows
            for name, target in taken.items():
                target[places] = columns[name][rows[places] - start]
                _leave_memory(columns[name])
        return taken

    def prefetch(self, shards: Iterable[int]) -> None:
        """Begin to fetch shards by their numbers; what goes wrong is raised when their rows are taken."""
        for number in shards:
            self._request(number)

    def close(self) -> None:
        """Release the shards and stop the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._open.clear()

    def _request(self, number: int) -> Future[Columns]:
        with self._lock:
            if number in self._open:
                self._open.move_to_end(number)
            else:
                self._open[number] = self._pool.submit(self._load, number)
                if len(self._open) > OPEN_SHARDS:
                    self._open.popitem(last=False)[1].cancel()
            return self._open[number]

    def _columns(self, number: int) -> Columns:
        try:
            return self._request(number).result()
        except BaseException:
            with self._lock:
                self._open.pop(number, None)
            raise

    def _load(self, number: int) -> Columns:
        return load_shards(self._store, self._manifest, [self._shards[number]], self._cache)


def row_ends(manifest: Manifest, split: str) -> NDArray[np.int64]:
    """Where each shard of a split ends: the number of rows up to and with it."""
    return np.cumsum([shard.rows for shard in manifest.shards if shard.split == split], dtype=np.int64)


def _leave_memory(array: NDArray[Any]) -> None:
    """Unmap the pages that were read; they stay in the system's cache of files."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
