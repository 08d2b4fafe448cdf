"""From a dataset's shards in the store to arrays, by way of the node's cache; and the check of every byte."""

import ctypes
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.datasets.cache import Cache
from service.datasets.catalogue import embedded_arrays
from service.datasets.manifest import Manifest, Shard
from service.datasets.shards import decode_into
from service.errors import Damaged, NotFound
from service.storage.base import Store

FETCHERS = 2
"""Shards in memory at a time, 24 MB each, and as much again decoded (measured: four are no faster on 2 cores)."""


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
    columns = cache.columns(digest, lambda folder: _fill(store, manifest, shards, folder))
    return {name.removeprefix("column-"): array for name, array in columns.items()}


def _fill(store: Store, manifest: Manifest, shards: list[Shard], folder: Path) -> None:
    rows = sum(shard.rows for shard in shards)
    kinds = [("label", np.dtype(np.int32), ()), *((f.name, np.dtype(f.dtype), f.shape) for f in manifest.features)]
    # Decoded straight into the files that are mapped later: no second copy in memory.
    arrays = {
        name: np.lib.format.open_memmap(folder / f"column-{name}.npy", mode="w+", dtype=dtype, shape=(rows, *shape))
        for name, dtype, shape in kinds
    }
    first = 0
    starts = []
    for shard in shards:
        starts.append(first)
        first += shard.rows

    def fetch(shard: Shard, start: int) -> None:
        data = read_verified(store, shard)
        part = {name: array[start : start + shard.rows] for name, array in arrays.items()}
        decode_into(data, manifest.features, part, part["label"], shard.key)

    # Not flushed to the disk: the cache compares checksums whenever it opens an entry.
    with ThreadPoolExecutor(FETCHERS, thread_name_prefix="shards") as pool:
        for future in [pool.submit(fetch, shard, start) for shard, start in zip(shards, starts, strict=True)]:
            future.result()
    _give_memory_back()


def _give_memory_back() -> None:
    """What decoding took, which Arrow and the C library would keep: some 80 MB of a worker that trains on CIFAR-10 (measured)."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def read_verified(store: Store, shard: Shard) -> bytes:
    """A shard's bytes; raise Damaged when it is missing or its checksum differs from the manifest."""
    try:
        data = store.read(shard.key)
    except NotFound as error:
        raise Damaged(f"The shard {shard.key} is missing in {store.url}: import the dataset again.") from error
    if len(data) != shard.bytes or hashlib.sha256(data).hexdigest() != shard.sha256:
        raise Damaged(f"The shard {shard.key} in {store.url} differs from its checksum: import the dataset again.")
    return data


def verify_dataset(store: Store, manifest: Manifest, progress: Callable[[int], None] | None = None) -> list[str]:
    """Read every shard and compare its checksum; return a sentence for each that is wrong."""

    def check(shard: Shard) -> str:
        try:
            read_verified(store, shard)
        except Damaged as error:
            return str(error)
        finally:
            if progress is not None:
                progress(shard.bytes)
        return ""

    with ThreadPoolExecutor(FETCHERS) as pool:
        return [problem for problem in pool.map(check, manifest.shards) if problem]
