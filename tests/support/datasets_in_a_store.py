"""Datasets of random examples in a store, with shards of any size."""

import hashlib
from collections.abc import Sequence

import numpy as np

from service.datasets import Feature, Manifest, Shard
from service.datasets.shards import encode
from service.storage.base import Store
from service.storage.json_documents import to_bytes
from service.storage.paths import DatasetPaths

FEATURES = (Feature("image", "uint8", (3, 2, 1), 255.0), Feature("length", "float32", ()), Feature("track", "float32", (2, 2)))
CLASSES = ("a", "b", "c")


def make_dataset(
    store: Store, name: str, train: Sequence[int], test: Sequence[int] = (5,), seed: int = 0, validation: Sequence[int] = ()
) -> Manifest:
    """Write a dataset whose splits have shards of so many rows; without any for validation it has no such split."""
    generator = np.random.default_rng(seed)
    paths = DatasetPaths(name, f"v{seed}")
    shards = []
    splits = {"train": train, "test": test, **({"validation": validation} if validation else {})}
    for split, sizes in splits.items():
        for index, rows in enumerate(sizes):
            columns = {
                "image": generator.integers(0, 256, (rows, 3, 2, 1), dtype=np.uint8),
                "length": generator.random(rows, np.float32),
                "track": generator.random((rows, 2, 2), np.float32),
            }
            data = bytes(encode(FEATURES, columns, generator.integers(0, len(CLASSES), rows).astype(np.int32)))
            key = paths.shard(split, index, len(sizes))
            store.write(key, data)
            shards.append(Shard(split, key, rows, len(data), hashlib.sha256(data).hexdigest()))
    rows = {split: sum(sizes) for split, sizes in splits.items()}
    manifest = Manifest(name, paths.version, FEATURES, CLASSES, rows, tuple(shards))
    store.write(paths.manifest, to_bytes(manifest.document()))
    return manifest


def flip_a_byte(store: Store, key: str) -> None:
    """Damage an object."""
    data = bytearray(store.read(key))
    data[len(data) // 2] ^= 1
    store.write(key, bytes(data))
