"""What those who wrote a table say of its columns in its schema: pandas of its index, Hugging Face of its labels, Delayline of its shapes."""

import json
import math
import re
from typing import Any

import pyarrow as pa

from service.datasets.manifest import STORED_TYPES

UNNAMED_INDEX = re.compile(r"__index_level_\d+__|Unnamed: 0|")
"""What pandas calls an index without a name: in Parquet, where a CSV file with one was read, and in CSV files."""


def index_columns(schema: pa.Schema) -> list[str]:
    """The columns that are the index of a pandas table, named by its metadata or by a name that pandas gives to nothing else."""
    levels = _metadata(schema, b"pandas").get("index_columns")
    # A range of numbers is described by an object instead of a column.
    named = {level for level in levels if isinstance(level, str)} if isinstance(levels, list) else set()
    return [name for name in schema.names if name in named or UNNAMED_INDEX.fullmatch(name)]


def class_names(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """The names of the classes by column, of those that Hugging Face's metadata says are labels."""
    info = _metadata(schema, b"huggingface").get("info")
    features = info.get("features") if isinstance(info, dict) else None
    found = {}
    for name, feature in features.items() if isinstance(features, dict) else ():
        names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
        if isinstance(names, list) and names and all(isinstance(each, str) for each in names):
            found[str(name)] = tuple(names)
    return found


def _metadata(schema: pa.Schema, key: bytes) -> dict[str, Any]:
    try:
        found = json.loads((schema.metadata or {}).get(key, b"{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def written_array(field: pa.Field) -> tuple[str, tuple[int, ...], tuple[str, ...]] | None:
    """The type, the shape and the columns that Delayline's own shards name; None where there is nothing of that kind."""
    try:
        found = json.loads((field.metadata or {}).get(b"delayline", b"{}"))
        dtype, shape, columns = str(found["dtype"]), tuple(found["shape"]), tuple(found.get("columns", ()))
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError):
        return None
    plain = dtype in STORED_TYPES and len(shape) <= 32 and all(type(size) is int and 0 < size < 2**40 for size in shape)
    named = columns if all(isinstance(name, str) for name in columns) and (len(columns),) == shape else ()
    return (dtype, shape, named) if plain and math.prod(shape) < 2**50 else None
