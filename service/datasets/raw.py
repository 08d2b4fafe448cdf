"""A dataset as its original files hold it, in memory, checked before anything is written."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.datasets.manifest import FEATURE_NAME, STORED_TYPES, Feature, OneHot
from service.errors import BadData

MOST_CLASSES = 1_000_000
SAMPLE_WEIGHT = "sample_weight"
"""A column of this name is kept apart from the other numbers of an example, and may be given for the training split alone."""


@dataclass
class RawSplit:
    """Arrays [rows, …] by feature, and labels, integers [rows]. `origin` names the file in messages."""

    columns: dict[str, NDArray[Any]]
    labels: NDArray[Any]
    origin: str


@dataclass
class RawDataset:
    """The splits `train`, `test` and, where there is one, `validation`; the classes' names, or None to number them."""

    splits: dict[str, RawSplit]
    classes: tuple[str, ...] | None = None
    notes: list[str] = field(default_factory=list)
    """What was left out, turned, laid over or scaled, a sentence each; the import and `data show` say them."""
    ground: str = ""
    """What transparent pictures were laid over, and later ones are: white or black; empty for what are no pictures."""
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What each number of a feature is called, by feature; see Feature."""
    one_hot: tuple[OneHot, ...] = ()

    def complete_weights(self) -> None:
        """Give each example the weight 1 in splits without weights, which evaluations do not look at."""
        if SAMPLE_WEIGHT not in getattr(self.splits.get("train"), "columns", {}):
            return
        kind = self.splits["train"].columns[SAMPLE_WEIGHT].dtype
        without = [name for name, split in self.splits.items() if SAMPLE_WEIGHT not in split.columns]
        for name in without:
            self.splits[name].columns[SAMPLE_WEIGHT] = np.ones(len(self.splits[name].labels), kind)
        if without:
            self.notes.append(f"{SAMPLE_WEIGHT} is 1 for all examples of {' and '.join(without)}, which have none")

    def features(self) -> tuple[Feature, ...]:
        """The features of all splits; raise BadData where the splits differ or a type cannot be stored."""
        found = []
        for name, array in self.splits["train"].columns.items():
            if not FEATURE_NAME.fullmatch(name) or name == "label":
                raise BadData(
                    f"{self.splits['train'].origin}: the feature name {name[:60]!r} is not valid: use letters, digits, '_', '-' and '.', but not 'label'."
                )
            if array.dtype.name not in STORED_TYPES:
                raise BadData(
                    f"{self.splits['train'].origin}: {name!r} has the type {array.dtype}, but it must be one of {', '.join(STORED_TYPES)}."
                )
            scale = 255.0 if array.dtype == np.uint8 and array.ndim == 4 else 1.0
            names = self.names.get(name, ())
            one_hot = tuple(each for each in self.one_hot if {f"{each[0]}={text}" for text in each[1]} <= set(names))
            found.append(Feature(name, array.dtype.name, tuple(array.shape[1:]), scale, names, one_hot))
        if not found:
            raise BadData(f"{self.splits['train'].origin}: there is nothing but labels: give at least one feature.")
        return tuple(found)

    def check(self) -> tuple[tuple[Feature, ...], tuple[str, ...]]:
        """Check splits against each other and labels against classes; return features and classes; raise BadData."""
        for required in ("train", "test"):
            if required not in self.splits:
                raise BadData(f"There is no {required} split: Delayline trains on `train` and measures on `test`; give both.")
        features = self.features()
        for name, split in self.splits.items():
            _check_split(name, split, features)
        highest = max(int(split.labels.max()) for split in self.splits.values())
        classes = self.classes or tuple(str(number) for number in range(highest + 1))
        for split in self.splits.values():
            check_labels(split.labels, split.origin, len(classes))
        return features, classes


def _check_split(name: str, split: RawSplit, features: tuple[Feature, ...]) -> None:
    check_labels(split.labels, split.origin)
    rows = len(split.labels)
    if rows == 0:
        raise BadData(f"{split.origin}: the {name} split is empty: give at least one example.")
    if {feature.name for feature in features} != set(split.columns):
        raise BadData(
            f"{split.origin}: the {name} split has the features {', '.join(split.columns)}, but train has {', '.join(f.name for f in features)}."
        )
    for feature in features:
        array = split.columns[feature.name]
        if len(array) != rows:
            raise BadData(
                f"{split.origin}: there are {len(array)} of {feature.name!r} and {rows} labels in {name}: their numbers must be equal."
            )
        if tuple(array.shape[1:]) != feature.shape or array.dtype.name != feature.dtype:
            raise BadData(
                f"{split.origin}: {feature.name!r} is {array.dtype} {array.shape[1:]} in {name}, but {feature.dtype} {feature.shape} in train."
            )
        if math.prod(feature.shape) == 0:
            raise BadData(f"{split.origin}: {feature.name!r} has the shape {feature.shape}, which holds nothing.")


def check_labels(labels: NDArray[Any], origin: str, classes: int = MOST_CLASSES) -> None:
    """Labels are one integer each, from 0 to less than `classes`; raise BadData with the example's number."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise BadData(
            f"{origin}: labels must be one whole number for each example, but they are {labels.dtype} of shape {labels.shape}."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise BadData(
            f"{origin}: example {wrong[0]} has the label {labels[wrong[0]]}, but labels count from 0 to less than {classes}: correct the labels."
        )
