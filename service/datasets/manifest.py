"""What a dataset is: its features, classes, splits and shards, as the manifest in the store says it."""

import math
from dataclasses import dataclass
from typing import Any

from service.errors import Damaged
from service.storage.records import Document


@dataclass(frozen=True)
class Feature:
    """One array of each example. `scale` divides stored values for training: 255 for uint8 images, 1 for floats."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float = 1.0


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
    """One version of a dataset. `splits` holds the number of examples of each split."""

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

    @property
    def bytes(self) -> int:
        """The size of all shards."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def example_bytes(self) -> int:
        """The size of one example in memory, its label included."""
        return example_bytes(self.features)

    def document(self) -> Document:
        """As it stands in the store and in JSON output."""
        return {
            "name": self.name,
            "version": self.version,
            "features": [{"name": f.name, "dtype": f.dtype, "shape": list(f.shape), "scale": f.scale} for f in self.features],
            "classes": list(self.classes),
            "splits": dict(self.splits),
            "shards": [vars(shard) for shard in self.shards],
            "source": self.source,
            "imported": self.imported,
            "embedded": self.embedded,
        }

    @classmethod
    def from_document(cls, document: dict[str, Any], key: str) -> "Manifest":
        """Read a manifest; raise Damaged when it is not one."""
        try:
            return cls(
                name=document["name"],
                version=document["version"],
                features=tuple(
                    Feature(f["name"], f["dtype"], tuple(f["shape"]), float(f["scale"])) for f in document["features"]
                ),
                classes=tuple(document["classes"]),
                splits={name: int(rows) for name, rows in document["splits"].items()},
                shards=tuple(Shard(s["split"], s["key"], s["rows"], s["bytes"], s["sha256"]) for s in document["shards"]),
                source=document["source"],
                imported=float(document["imported"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Damaged(f"The manifest {key} is not one that Delayline wrote: import the dataset again.") from error
