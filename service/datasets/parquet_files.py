"""Parquet files from outside, read piece by piece: a few bytes can repeat a value until the memory is full."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from service.datasets.unpacked import RATIO, check_unpacked, most_unpacked
from service.datasets.written_schema import index_columns
from service.errors import BadData

MOST_ROWS = 65536
"""That are read at a time, as Arrow itself does."""
BUFFER = 64 * 1024
"""Bytes of a column that are read at a time to see its first page (assumed)."""
PIECE = 16 * 1024**2
"""Bytes that are read at a time of a file whose texts may be repeated, and a quarter of what its size allows (assumed)."""


@dataclass(frozen=True)
class Tables:
    """The rows of several files, one after another."""

    table: pa.Table
    files: tuple[tuple[str, int], ...]
    """Each file's name and its number of rows."""
    packed: int
    """The bytes of all files."""
    index: tuple[str, ...] = ()
    """Columns that one of the files says are the index of a pandas table."""

    def place(self, row: int) -> str:
        """The place of a row: its file, and its number there, from 0."""
        for name, rows in self.files:
            if row < rows:
                return f"{name}: row {row}"
            row -= rows
        raise IndexError(row)


def read_file(path: Path) -> pa.Table:
    """A file's rows; raise BadData for one that holds far more than its size, Arrow's own errors for a damaged one."""
    packed = path.stat().st_size
    _check_descriptions(path)
    with pq.ParquetFile(path) as file:
        claimed, largest = _claims(file)
        check_unpacked(claimed, packed, path.name)
        # No text is longer than all that its column holds.
        if claimed + file.metadata.num_rows * largest > most_unpacked(packed):
            _count(file, max(1, (PIECE + RATIO * packed // 4) // max(1, largest)), packed, path.name)
        return file.read()


def _check_descriptions(path: Path) -> None:
    """Raise Arrow's error for columns whose description contradicts itself; Arrow raises it only once the description is read.

    Asked for directly (`metadata.row_group(0).column(0)`), Arrow 26 throws past Python and ends the process.
    """
    with pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
        for number in range(file.num_row_groups):
            next(file.iter_batches(batch_size=1, row_groups=[number], use_threads=False), None)


def _count(file: pq.ParquetFile, rows: int, packed: int, name: str) -> None:
    """Read a file, so many rows at a time and keeping none, to see whether texts that are stored once unpack to far too many."""
    total = 0
    for batch in file.iter_batches(batch_size=min(MOST_ROWS, rows)):
        total += sum(_bytes(column) for column in batch.columns)
        check_unpacked(total, packed, name)


def _claims(file: pq.ParquetFile) -> tuple[int, int]:
    """The bytes that a file's own description claims, each number as eight, and those of its largest pieces with texts."""
    claimed = largest = 0
    widths = [max(8, file.schema.column(index).length or 0) for index in range(file.metadata.num_columns)]
    for number in range(file.metadata.num_row_groups):
        group, texts = file.metadata.row_group(number), 0
        for index, width in enumerate(widths):
            column = group.column(index)
            claimed += max(0, column.num_values) * width + max(0, column.total_uncompressed_size)
            texts += column.total_uncompressed_size if column.physical_type == "BYTE_ARRAY" else 0
        largest = max(largest, texts)
    return claimed, largest


def _bytes(column: pa.Array) -> int:
    """A column's size where each row has its own value."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    try:
        lengths = pc.binary_length(column.dictionary).take(column.indices)
        return int(column.indices.nbytes + (pc.sum(lengths).as_py() or 0))
    except pa.ArrowNotImplementedError:
        return int(column.indices.nbytes)


def dense(column: pa.Array) -> NDArray[Any]:
    """Lists, and lists of lists, as an array [rows, …].

    Raise ValueError where they differ in length or have empty values, ArrowTypeError with the type of what is no number.
    """
    shape = [len(column)]
    while not pa.types.is_null(column.type) and _is_list(column.type):
        lengths = pc.unique(pc.list_value_length(column)).to_pylist()
        if len(lengths) > 1 or None in lengths:
            raise ValueError("lists of several lengths")
        shape.append(lengths[0] if lengths else 0)
        column = column.flatten()
    if math.prod(shape) == 0:
        return np.zeros(shape, np.float32)
    if column.null_count:
        raise ValueError("empty values")
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        raise pa.ArrowTypeError(str(column.type))
    return column.to_numpy(zero_copy_only=False).reshape(shape)  # type: ignore[no-any-return]


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def joined(split: str, files: list[Path], read: Callable[[Path], pa.Table], progress: Callable[[int], None]) -> Tables:
    """The rows of a split's files, one after another, in the order of the first one's columns; raise BadData where columns differ."""
    tables: list[pa.Table] = []
    for path in files:
        table = read(path)
        if tables:
            table = _like(tables[0], table, files[0].name, path.name)
        tables.append(table)
        progress(path.stat().st_size)
    counts = tuple((path.name, len(part)) for path, part in zip(files, tables, strict=True))
    index = tuple({name: None for table in tables for name in index_columns(table.schema)})
    # Whole and fractional numbers of one column become fractions; a column that is empty in one file is of the others' type.
    table = pa.concat_tables(tables, promote_options="permissive") if len(tables) > 1 else tables[0]
    return Tables(table, counts, sum(path.stat().st_size for path in files), index)


def _like(first: pa.Table, table: pa.Table, first_name: str, name: str) -> pa.Table:
    """The table with its columns in the order of the first; raise BadData naming the first one that differs."""
    if len(set(first.column_names)) < len(first.column_names) or len(set(table.column_names)) < len(table.column_names):
        # Said of the split as a whole.
        return table
    for column in first.column_names:
        if column not in table.column_names:
            raise BadData(
                f"{name}: it has no column {column}, which {first_name} has: give all files of a split the same columns."
            )
    for column in table.column_names:
        if column not in first.column_names:
            raise BadData(
                f"{name}: it has the column {column}, which {first_name} lacks: give all files of a split the same columns."
            )
    table = table.select(first.column_names)
    for one, other in zip(first.schema, table.schema, strict=True):
        if not (
            one.type == other.type or pa.types.is_null(one.type) or pa.types.is_null(other.type) or _both_numbers(one, other)
        ):
            raise BadData(
                f"{name}: its column {one.name} holds {other.type}, but {one.type} in {first_name}: "
                "give a column the same type in all files of a split."
            )
    return table


def _both_numbers(one: pa.Field, other: pa.Field) -> bool:
    return all(pa.types.is_integer(each.type) or pa.types.is_floating(each.type) for each in (one, other))
