"""The arrays that a spec asks for, out of the node's cache; or, where memory would not hold them, streams in their place."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.datasets.bits import bit_columns
from jobs.datasets.layout import Layout, layout_of
from jobs.datasets.reading import FreshColumns, Indices, StreamedColumns
from jobs.datasets.streaming import Check, RowStream, SplitSource, streamed_columns
from service.datasets import Cache, Feature, Manifest, ShardRows, find_dataset, is_streamed, load_split
from service.datasets.manifest import VALIDATION
from service.errors import BadData
from service.settings import Settings
from service.specs.generated import BitSequences, generated
from service.specs.train import TrainSpec
from service.storage.base import Store

Columns = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Arrays:
    """A dataset in memory, or mapped into it: features [examples, …] by name in their stored types, labels int32 [examples].

    `features` are what the model gets; `train` also has the column of the spec's `sample_weight`.

    Labels are int32 [examples, steps] where each step of an example has one of its own; -1 is one that does not count.

    Where it is `streamed`, objects stand in the place of the arrays that read what they are indexed with; training and
    evaluation read them in order, by jobs.datasets.reading.
    """

    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    train: Columns
    train_labels: NDArray[np.int32]
    test: Columns
    test_labels: NDArray[np.int32]
    layout: Layout
    """Of the training split."""
    streamed: bool = False
    validation: Columns | None = None
    validation_labels: NDArray[np.int32] | None = None
    """The dataset's own validation split; None where it has none, and a share of the training split is held out."""

    @property
    def held_out(self) -> tuple[Columns, NDArray[np.int32]]:
        """Features and labels among which the validation examples are: the dataset's own validation split, or the training split."""
        if self.validation is None or self.validation_labels is None:
            return self.train, self.train_labels
        return self.validation, self.validation_labels

    @property
    def input_shape(self) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
        """The shape of one example; by name where it has several features."""
        shapes = {feature.name: feature.shape for feature in self.features}
        return next(iter(shapes.values())) if len(shapes) == 1 else shapes


def find_run_dataset(spec: TrainSpec, store: Store, version: str | None) -> Manifest:
    """The spec's dataset; `version` is the one that the run began with, if it is known. Raise UnknownName."""
    pinned = spec.dataset if "@" in spec.dataset or version is None else f"{spec.dataset}@{version}"
    return find_dataset(store, pinned, spec.dataset_params)


def load_arrays(
    spec: TrainSpec,
    store: Store,
    version: str | None,
    cache_folder: Path,
    cache_bytes: int,
    neighbours: int = 1,
    check: Check | None = None,
) -> Arrays:
    """Load the spec's dataset by way of the node's cache; `version` is the one that the run began with, if it is known.

    `neighbours`: the workers that share this node's memory. `check` is called with the labels that are streamed.
    Raise UnknownName for a dataset that is not there, Damaged where a shard's checksum differs.
    """
    manifest = find_run_dataset(spec, store, version)
    if (params := generated(spec.dataset, spec.dataset_params)) is not None:
        return _generated(manifest, params, spec.seed)
    cache = Cache(cache_folder / "datasets", cache_bytes)
    streamed = is_streamed(spec, manifest, neighbours)
    splits = {}
    own_validation = [VALIDATION] if spec.evaluate.validation > 0 and manifest.splits.get(VALIDATION) else []
    for split in ("train", "test", *own_validation):
        if manifest.splits.get(split, 0) == 0:
            raise BadData(f"The dataset {manifest.name!r} has no {split} examples: import it again from files that have some.")
        columns: dict[str, Any] = (
            _streamed(store, manifest, split, cache, check) if streamed else dict(load_split(store, manifest, split, cache))
        )
        labels = columns.pop("label")
        if split != "train" and spec.sample_weight is not None:
            columns.pop(spec.sample_weight, None)
        splits[split] = (columns, labels)
    (train, train_labels), (test, test_labels) = splits["train"], splits["test"]
    layout = layout_of(manifest, "train")
    validation, validation_labels = splits.get(VALIDATION, (None, None))
    return Arrays(
        manifest.inputs(spec.sample_weight, spec.scale).features,
        manifest.classes,
        train,
        train_labels,
        test,
        test_labels,
        layout,
        streamed,
        validation,
        validation_labels,
    )


def load_test_split(spec: TrainSpec, store: Store, manifest: Manifest, cache: Cache) -> Columns:
    """The test split of a run's dataset, in memory; see service.datasets.load_split."""
    if (params := generated(spec.dataset, spec.dataset_params)) is not None:
        return bit_columns(params, spec.seed, "test")
    return dict(load_split(store, manifest, "test", cache))


def _generated(manifest: Manifest, params: BitSequences, seed: int) -> Arrays:
    """Draw the sequences: every worker draws the same, and reads nothing."""
    train, test = (bit_columns(params, seed, split) for split in ("train", "test"))
    labels, test_labels = (np.asarray(columns.pop("label"), np.int32) for columns in (train, test))
    if params.fresh:
        train = FreshColumns(train, lambda epoch: bit_columns(params, seed, "train", epoch))
    return Arrays(manifest.features, manifest.classes, train, labels, test, test_labels, layout_of(manifest, "train"))


def _streamed(store: Store, manifest: Manifest, split: str, cache: Cache, check: Check | None) -> StreamedColumns:
    """What stands in the place of a split's arrays, `label` among them."""
    reference = f"{manifest.name}@{manifest.version}"
    source = SplitSource(store.url, Settings.load().store_patience, reference, split, cache.folder, cache.limit_bytes)

    def stream(orders: Iterator[Indices]) -> RowStream:
        return RowStream(source, manifest, orders, check)

    return StreamedColumns(streamed_columns(ShardRows(store, manifest, split, cache), manifest), stream)


def scaled(columns: Columns, features: tuple[Feature, ...]) -> Columns:
    """Stored values as a model takes them: divided by their feature's divisor, float32; whole numbers without one as they are.

    Columns that are none of these features are left out.
    """
    divisors = {feature.name: feature.divisor for feature in features}
    return {
        name: array if (divisor := divisors[name]) is None else array.astype(np.float32) * np.float32(1 / divisor)
        for name, array in columns.items()
        if name in divisors
    }
