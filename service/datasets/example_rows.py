"""Rows of CSV and Parquet files as examples for a trained network: its columns found by their names, whatever their order."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.datasets.columns import is_number
from service.datasets.formats import csv, parquet
from service.datasets.manifest import Feature
from service.errors import BadData

READERS = {".csv": csv.read_table, ".tsv": csv.read_table, ".parquet": parquet.read_table}


def read_rows(path: Path, features: tuple[Feature, ...]) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """The features as arrays [rows, columns] by name, and a note on columns that are none of theirs.

    Raise BadData where the network's numbers have no names, where one of its columns is missing, and for values that are no numbers.
    """
    for feature in features:
        if not feature.columns:
            raise BadData(
                f"{path} has columns, but what the run was trained on has no names for the numbers of {feature.name}: give an .npz file."
            )
    table = READERS[path.suffix.lower()](path)
    if not len(table):
        raise BadData(f"{path} holds no examples.")
    used: set[str] = set()
    found = {}
    for feature in features:
        texts = {f"{column}={text}": (column, text) for column, all_texts in feature.one_hot for text in all_texts}
        names = [texts.get(name, (name, ""))[0] for name in feature.columns]
        missing = [name for name in dict.fromkeys(names) if name not in table.column_names]
        if missing:
            raise BadData(
                f"{path} has no column {', '.join(missing[:10])}, but the run was trained on {', '.join(dict.fromkeys(names[:20]))}: "
                f"it has {', '.join(table.column_names[:20])}."
            )
        used.update(names)
        numbers = [
            _is_text(path, table, *texts[name]) if name in texts else _numbers(path, table, name) for name in feature.columns
        ]
        found[feature.name] = np.stack(numbers, axis=1).astype(feature.dtype) / np.float32(feature.scale)
    others = [name for name in table.column_names if name not in used]
    return found, ((f"left out {', '.join(name or 'a column without a name' for name in others[:10])}",) if others else ())


def _only(path: Path, table: pa.Table, name: str) -> pa.ChunkedArray:
    if table.column_names.count(name) > 1:
        raise BadData(f"{path}: the column {name} appears twice or more: rename the columns.")
    column = table.column(name)
    if column.null_count:
        raise BadData(f"{path}: the column {name} has {column.null_count} empty values: fill or drop them.")
    return column


def _numbers(path: Path, table: pa.Table, name: str) -> NDArray[Any]:
    column = _only(path, table, name)
    if not is_number(column.type):
        raise BadData(f"{path}: the column {name} holds {column.type}, but the run was trained on numbers.")
    return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy())


def _is_text(path: Path, table: pa.Table, name: str, text: str) -> NDArray[Any]:
    return np.array([str(value) == text for value in _only(path, table, name).to_pylist()], np.float32)
