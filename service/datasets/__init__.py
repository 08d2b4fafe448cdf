"""Datasets: from files of many formats to Parquet shards in the store, and from there to arrays on each node.

Importing this package is cheap: NumPy and pyarrow are imported by what needs them.
"""

from typing import TYPE_CHECKING, Any

from service.datasets.catalogue import find_dataset, list_datasets
from service.datasets.manifest import Feature, Manifest, Shard

if TYPE_CHECKING:
    from service.datasets.cache import Cache
    from service.datasets.importer import import_dataset
    from service.datasets.load import load_split, verify_dataset
    from service.datasets.memory import is_streamed
    from service.datasets.rows import ShardRows

__all__ = [
    "Cache",
    "Feature",
    "Manifest",
    "Shard",
    "ShardRows",
    "find_dataset",
    "import_dataset",
    "is_streamed",
    "list_datasets",
    "load_split",
    "verify_dataset",
]

_LAZY = {
    "Cache": "cache",
    "ShardRows": "rows",
    "import_dataset": "importer",
    "is_streamed": "memory",
    "load_split": "load",
    "verify_dataset": "load",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'service.datasets' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"service.datasets.{_LAZY[name]}"), name)
