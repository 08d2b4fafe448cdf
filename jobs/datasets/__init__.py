"""The arrays that a spec asks for, out of the node's cache."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.datasets import Cache, Feature, Manifest, find_dataset, load_split
from service.errors import BadData
from service.specs import TrainSpec
from service.storage.base import Store

Columns = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Arrays:
    """A dataset in memory, or mapped into it: features [examples, …] by name in their stored types, labels int32 [examples]."""

    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    train: Columns
    train_labels: NDArray[np.int32]
    test: Columns
    test_labels: NDArray[np.int32]

    @property
    def input_shape(self) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
        """The shape of one example; by name where it has several features."""
        shapes = {feature.name: feature.shape for feature in self.features}
        return next(iter(shapes.values())) if len(shapes) == 1 else shapes


def find_run_dataset(spec: TrainSpec, store: Store, version: str | None) -> Manifest:
    """The spec's dataset; `version` is the one that the run began with, if it is known. Raise UnknownName."""
    return find_dataset(store, spec.dataset if "@" in spec.dataset or version is None else f"{spec.dataset}@{version}")


def load_arrays(spec: TrainSpec, store: Store, version: str | None, cache_folder: Path, cache_bytes: int) -> Arrays:
    """Load the spec's dataset by way of the node's cache; `version` is the one that the run began with, if it is known.

    Raise UnknownName for a dataset that is not there, Damaged where a shard's checksum differs.
    """
    manifest = find_run_dataset(spec, store, version)
    cache = Cache(cache_folder / "datasets", cache_bytes)
    splits = {}
    for split in ("train", "test"):
        columns = dict(load_split(store, manifest, split, cache))
        labels = columns.pop("label")
        if len(labels) == 0:
            raise BadData(f"The dataset {manifest.name!r} has no {split} examples: import it again from files that have some.")
        splits[split] = (columns, labels)
    (train, train_labels), (test, test_labels) = splits["train"], splits["test"]
    return Arrays(manifest.features, manifest.classes, train, train_labels, test, test_labels)


def scaled(columns: Columns, features: tuple[Feature, ...]) -> Columns:
    """Stored values as a model takes them: divided by their feature's scale, float32; whole numbers without one as they are."""
    scales = {feature.name: feature.scale for feature in features}
    return {
        name: array
        if array.dtype.kind in "iu" and scales[name] == 1.0
        else array.astype(np.float32) * np.float32(1 / scales[name])
        for name, array in columns.items()
    }
