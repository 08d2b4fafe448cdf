"""Parquet files from outside, read piece by piece: a few bytes can repeat a value until the memory is full."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from service.datasets.unpacked import RATIO, check_unpacked, most_unpacked

MOST_ROWS = 65536
"""That are read at a time, as Arrow itself does."""
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

    def place(self, row: int) -> str:
        """Where a row stands: its file, and its number there, from 0."""
        for name, rows in self.files:
            if row < rows:
                return f"{name}: row {row}"
            row -= rows
        raise IndexError(row)


def read_file(path: Path) -> pa.Table:
    """A file's rows; raise BadData for one that holds far more than its size, Arrow's own errors for a damaged one."""
    packed = path.stat().st_size
    with pq.ParquetFile(path) as file:
        claimed, largest = _claims(file)
        check_unpacked(claimed, packed, path.name)
        # No text is longer than all that its column holds.
        if claimed + file.metadata.num_rows * largest > most_unpacked(packed):
            _count(file, max(1, (PIECE + RATIO * packed // 4) // max(1, largest)), packed, path.name)
        return file.read()


def _count(file: pq.ParquetFile, rows: int, packed: int, name: str) -> None:
    """Read a file, so many rows at a time and keeping none, to see whether texts that stand once in it become far too many."""
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
