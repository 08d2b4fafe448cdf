"""What a dataset is: its features, classes, splits and shards, as the manifest in the store says it."""

import math
import re
from dataclasses import dataclass, replace
from typing import Any

from service.datasets.choices import GROUNDS
from service.errors import Damaged
from service.storage.json_documents import Document

STORED_TYPES = ("uint8", "int8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64")
VALIDATION = "validation"
"""The split that a dataset may have beside `train` and `test`."""
FEATURE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
"""A name becomes a column, a file of the cache and an input of the network."""


OneHot = tuple[str, tuple[str, ...]]
"""A column and its texts."""


@dataclass(frozen=True)
class Feature:
    """One array of each example. `scale` divides stored values for training: 255 for uint8 images, 1 for floats."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float = 1.0
    columns: tuple[str, ...] = ()
    """What each number of a row is called, in their order; empty where they have no names."""
    one_hot: tuple[OneHot, ...] = ()
    """Columns of texts of which each number is one text's 0 or 1, called COLUMN=TEXT in `columns`."""
    divided: bool = True
    """Of a run's features: whether the model gets them divided; its spec's `scale` says so, and no manifest."""

    def document(self) -> Document:
        """As the store has it; without names as it was before there were any."""
        described: Document = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape), "scale": self.scale}
        if self.columns:
            described["columns"] = list(self.columns)
        if self.one_hot:
            described["one_hot"] = {column: list(texts) for column, texts in self.one_hot}
        return described

    @property
    def divisor(self) -> float | None:
        """What stored values are divided by on their way to the model, as float32; None for whole numbers that it gets as they are."""
        if self.scale == 1.0:
            return 1.0 if self.dtype.startswith("float") else None
        return self.scale if self.divided else 1.0

    @property
    def model_dtype(self) -> str:
        """The type in which the model gets it."""
        return self.dtype if self.divisor is None else "float32"


def example_bytes(features: tuple[Feature, ...]) -> int:
    """The size of one example in memory, its label included."""
    import numpy as np

    return 4 + sum(np.dtype(feature.dtype).itemsize * math.prod(feature.shape) for feature in features)


@dataclass(frozen=True)
class Shard:
    """One Parquet file: `rows` examples of a split, in the split's order."""

    split: str
    key: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """One version of a dataset. `splits`: the number of examples of `train`, `test` and, where there is one, `validation`."""

    name: str
    version: str
    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    splits: dict[str, int]
    shards: tuple[Shard, ...] = ()
    source: str = ""
    imported: float = 0.0
    """Seconds since 1970."""
    embedded: bool = False
    """Comes with the package, as a file or generated; it has no shards."""
    notes: tuple[str, ...] = ()
    """What the import left out, turned, laid over or scaled, a sentence each."""
    ground: str = ""
    """What transparent pictures lie on: white or black; empty where that was never asked."""

    @property
    def bytes(self) -> int:
        """The size of all shards."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def example_bytes(self) -> int:
        """The size of one example in memory, its label included."""
        return example_bytes(self.features)

    def inputs(self, sample_weight: str | None, scale: bool = True) -> "Manifest":
        """The dataset as a model sees it: without the feature that weighs the examples, its values divided by their scale or not."""
        seen = (replace(feature, divided=scale) for feature in self.features if feature.name != sample_weight)
        return replace(self, features=tuple(seen))

    def document(self) -> Document:
        """As the store and JSON output have it."""
        return {
            "name": self.name,
            "version": self.version,
            "features": [feature.document() for feature in self.features],
            "classes": list(self.classes),
            "splits": dict(self.splits),
            "shards": [vars(shard) for shard in self.shards],
            "source": self.source,
            "imported": self.imported,
            "embedded": self.embedded,
            "notes": list(self.notes),
            **({"ground": self.ground} if self.ground else {}),
        }

    @classmethod
    def from_document(cls, document: dict[str, Any], key: str) -> "Manifest":
        """Read a manifest; raise Damaged when it is not one."""
        try:
            return cls(
                name=_text(document["name"]),
                version=_text(document["version"]),
                features=tuple(map(_feature, document["features"])),
                classes=tuple(map(_text, document["classes"])),
                splits={name: _count(rows) for name, rows in document["splits"].items()},
                shards=tuple(map(_shard, document["shards"])),
                source=_text(document["source"]),
                imported=float(document["imported"]),
                notes=tuple(map(_text, document.get("notes", ()))),
                ground=_ground(document.get("ground", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Damaged(f"The manifest {key} is not one that Delayline wrote: import the dataset again.") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _ground(value: Any) -> str:
    if value not in ("", *GROUNDS):
        raise ValueError("no ground")
    return str(value)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError("no number of things")
    return value


def _feature(document: dict[str, Any]) -> Feature:
    """A feature whose name and type can be a file's and an array's: the store may hold what other programs wrote."""
    name, dtype, scale = document["name"], document["dtype"], float(document["scale"])
    if not FEATURE_NAME.fullmatch(name) or dtype not in STORED_TYPES or not 0 < scale < math.inf:
        raise ValueError("no feature")
    shape = tuple(map(_count, document["shape"]))
    columns = tuple(map(_text, document.get("columns", ())))
    if columns and shape != (len(columns),):
        raise ValueError("names of other numbers")
    one_hot = tuple((_text(column), tuple(map(_text, texts))) for column, texts in document.get("one_hot", {}).items())
    return Feature(name, dtype, shape, scale, columns, one_hot)


def _shard(document: dict[str, Any]) -> Shard:
    return Shard(
        _text(document["split"]),
        _text(document["key"]),
        _count(document["rows"]),
        _count(document["bytes"]),
        _text(document["sha256"]),
    )
