"""From a dataset's shards in the store to arrays, by way of the node's cache; and the check of every byte."""

import ctypes
import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.datasets.buffers import Buffers
from service.datasets.cache import Cache, Piece
from service.datasets.catalogue import embedded_arrays
from service.datasets.manifest import Manifest, Shard
from service.datasets.shards import decode
from service.errors import Damaged, NotFound
from service.storage.base import Store

FETCHERS = 2
"""Shards in memory at a time, 24 MB each (measured: four are no faster on 2 cores)."""


def load_split(store: Store, manifest: Manifest, split: str, cache: Cache) -> dict[str, NDArray[Any]]:
    """The arrays of a split: features [rows, *shape] by name in their stored types, and `label`, int32 [rows].

    They are read-only and mapped from the cache. Raise Damaged when a shard's checksum differs from the manifest.
    """
    if manifest.embedded:
        return dict(embedded_arrays(manifest.name)[split])
    return load_shards(store, manifest, [shard for shard in manifest.shards if shard.split == split], cache)


def load_shards(store: Store, manifest: Manifest, shards: list[Shard], cache: Cache) -> dict[str, NDArray[Any]]:
    """The arrays of some shards, one after another, as one entry of the cache; see load_split."""
    layout = [[shard.sha256 for shard in shards], [[f.name, f.dtype, f.shape] for f in manifest.features]]
    digest = hashlib.sha256(json.dumps(layout).encode()).hexdigest()

    def fill(folder: Path) -> dict[str, list[Piece]]:
        try:
            return _fill(store, manifest, shards, folder)
        finally:
            _give_memory_back()

    columns = cache.columns(digest, fill)
    return {name.removeprefix("column-"): array for name, array in columns.items()}


def _fill(store: Store, manifest: Manifest, shards: list[Shard], folder: Path) -> dict[str, list[Piece]]:
    rows = sum(shard.rows for shard in shards)
    kinds = [("label", np.dtype(np.int32), ()), *((f.name, np.dtype(f.dtype), f.shape) for f in manifest.features)]
    files = {name: _ArrayFile(folder / f"column-{name}.npy", dtype, (rows, *shape)) for name, dtype, shape in kinds}
    starts = np.cumsum([0, *(shard.rows for shard in shards)])[:-1].tolist()
    buffers = Buffers(max((shard.bytes for shard in shards), default=0))

    def fetch(shard: Shard, start: int) -> None:
        with buffers.take(shard.bytes) as target:
            read_verified(store, shard, target)
            for first, columns in decode(target, manifest.features, shard.rows, shard.key):
                for name, values in columns.items():
                    files[name].write(start + first, values)

    # Not flushed to the disk: the cache compares checksums whenever it opens an entry.
    try:
        with ThreadPoolExecutor(FETCHERS, thread_name_prefix="shards") as pool:
            for future in [pool.submit(fetch, shard, start) for shard, start in zip(shards, starts, strict=True)]:
                future.result()
    finally:
        for file in files.values():
            file.close()
    return {file.name: file.pieces for file in files.values()}


class _ArrayFile:
    """A `.npy` file that is written in any order, and not mapped: its pages would count as this process's memory."""

    def __init__(self, path: Path, dtype: "np.dtype[Any]", shape: tuple[int, ...]) -> None:
        mapped = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        self.name = path.name
        self._start = mapped.offset
        self._row = dtype.itemsize * math.prod(shape[1:])
        self._descriptor = os.open(path, os.O_RDWR)
        self.pieces = [(0, self._start, zlib.crc32(os.pread(self._descriptor, self._start, 0)))]

    def write(self, row: int, values: NDArray[Any]) -> None:
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        place = self._start + row * self._row
        self.pieces.append((place, len(data), zlib.crc32(data)))
        while data:
            written = os.pwrite(self._descriptor, data, place)
            data, place = data[written:], place + written

    def close(self) -> None:
        os.close(self._descriptor)


def _give_memory_back() -> None:
    """What decoding took, which Arrow and the C library would keep: some 80 MB of a worker that trains on CIFAR-10 (measured)."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def read_verified(store: Store, shard: Shard, target: memoryview) -> None:
    """Read a shard into memory of its size; raise Damaged when it is missing or its checksum differs from the manifest."""
    try:
        sha256 = store.read_into(shard.key, target)
    except NotFound as error:
        raise Damaged(f"The shard {shard.key} is missing in {store.url}: import the dataset again.") from error
    except Damaged as error:
        raise Damaged(f"{str(error).rstrip('.')}: import the dataset again.") from error
    if sha256 != shard.sha256:
        raise Damaged(f"The shard {shard.key} in {store.url} differs from its checksum: import the dataset again.")


def verify_dataset(store: Store, manifest: Manifest, progress: Callable[[int], None] | None = None) -> list[str]:
    """Read every shard and compare its checksum; return a sentence for each that is wrong."""

    buffers = Buffers(max((shard.bytes for shard in manifest.shards), default=0))

    def check(shard: Shard) -> str:
        try:
            with buffers.take(shard.bytes) as target:
                read_verified(store, shard, target)
        except Damaged as error:
            return str(error)
        finally:
            if progress is not None:
                progress(shard.bytes)
        return ""

    with ThreadPoolExecutor(FETCHERS) as pool:
        return [problem for problem in pool.map(check, manifest.shards) if problem]
