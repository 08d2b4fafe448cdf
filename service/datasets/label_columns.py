"""A column of labels, in all splits, as class numbers and the classes' names: whole numbers, texts, truth values, Hugging Face's ClassLabel."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.datasets.array_labels import OF_FRACTIONS, ClassNumbers
from service.datasets.parquet_files import Tables
from service.datasets.written_schema import class_names
from service.errors import BadData

_Columns = Mapping[str, pa.ChunkedArray]


def read_labels(source: Path, tables: Mapping[str, Tables], label: str) -> ClassNumbers:
    """The labels of all splits; raise BadData for empty ones, for what is no class, and where splits hold different kinds."""
    columns = {split: _plain(source, split, part.table.column(label), label) for split, part in tables.items()}
    kinds = {split: column.type for split, column in columns.items()}
    if all(map(pa.types.is_integer, kinds.values())):
        numbers = {split: _whole(source, split, column, label) for split, column in columns.items()}
        named = [class_names(part.table.schema).get(label) for part in tables.values()]
        return ClassNumbers(numbers, named[0] if all(names == named[0] for names in named) else None)
    if all(map(is_text, kinds.values())):
        return _named(columns, ())
    if all(map(pa.types.is_boolean, kinds.values())):
        return _named(columns, (f"The labels of {label} are truth values: the classes are false and true.",), ("false", "true"))
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds.values()):
        return _from_fractions(source, columns, label)
    held = sorted({str(kind) for kind in kinds.values()})
    raise BadData(f"{source}: the column {label} must hold whole numbers or names in all splits, but holds {' and '.join(held)}.")


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _plain(source: Path, split: str, column: pa.ChunkedArray, label: str) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        raise BadData(
            f"{source}: the column {label} of {split} has {column.null_count} empty values: give every example a label."
        )
    return column


def _whole(source: Path, split: str, column: pa.ChunkedArray, label: str) -> NDArray[np.int64]:
    values: NDArray[Any] = column.to_numpy()
    if len(values) and int(values.max()) > 2**62:
        raise BadData(f"{source}: the column {label} of {split} has the label {values.max()}, which is no number of a class.")
    return values.astype(np.int64)


def _named(columns: _Columns, notes: tuple[str, ...], names: tuple[str, ...] | None = None) -> ClassNumbers:
    texts = {split: [str(value) for value in column.to_pylist()] for split, column in columns.items()}
    if names:
        texts = {split: [value.lower() for value in values] for split, values in texts.items()}
    found = names or tuple(sorted({value for values in texts.values() for value in values}))
    number = {name: index for index, name in enumerate(found)}
    return ClassNumbers(
        {split: np.array([number[v] for v in values], np.int64) for split, values in texts.items()}, found or None, notes
    )


def _from_fractions(source: Path, columns: _Columns, label: str) -> ClassNumbers:
    """Numbers such as 1.0, which pandas makes of whole ones where some were empty before."""
    numbers = {}
    for split, column in columns.items():
        values = pc.cast(column, pa.float64()).to_numpy()
        wrong = np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)) | (np.abs(values) > 2**53))
        if len(wrong):
            raise BadData(
                f"{source}: the column {label} of {split} must hold whole numbers or names, but row {wrong[0]} is {values[wrong[0]]:g}: "
                "Delayline classifies, and a quantity is no class."
            )
        numbers[split] = values.astype(np.int64)
    return ClassNumbers(numbers, None, (OF_FRACTIONS.format(f" of {label}"),))
