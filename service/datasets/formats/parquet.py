"""Parquet files: `train.parquet` and `test.parquet`, or folders `train` and `test` of them; the column `label` and features."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.datasets.choices import NONE, Choices
from service.datasets.manifest import STORED_TYPES
from service.datasets.parquet_files import Tables, dense, read_file
from service.datasets.picture_columns import read_pictures
from service.datasets.raw import SAMPLE_WEIGHT, RawDataset, RawSplit
from service.errors import BadData, InvalidInput

takes = ("ground",)


def read(source: Path, progress: Callable[[int], None], choices: Choices = NONE) -> RawDataset:
    """Read both splits. Lists of equal length become arrays, encoded pictures become images, single numbers together `x`."""
    try:
        return _read(source, progress, choices)
    except UnicodeDecodeError as error:
        raise BadData(f"{source}: it has a text that is not UTF-8 ({_first_line(error)}): write the files again.") from error


def _read(source: Path, progress: Callable[[int], None], choices: Choices) -> RawDataset:
    parts = {split: _tables(source, split, progress) for split in ("train", "test")}
    tables = {split: part.table for split, part in parts.items()}
    names: list[str] = []
    if not all(pa.types.is_integer(table.schema.field("label").type) for table in tables.values()):
        texts = {str(value) for table in tables.values() for value in table.column("label").to_pylist()}
        if not all(_is_text(table.schema.field("label").type) for table in tables.values()):
            raise BadData(
                f"{source}: the column label must hold whole numbers or names, but holds {tables['train'].schema.field('label').type}."
            )
        names = sorted(texts)
    pictures = read_pictures(parts, choices.ground)
    splits = {split: _split(source, split, part, names, pictures.arrays[split]) for split, part in parts.items()}
    return RawDataset(splits, tuple(names) or None, notes=list(pictures.notes), ground=pictures.ground)


def _tables(source: Path, split: str, progress: Callable[[int], None]) -> Tables:
    folder = source / split
    files = (
        sorted(folder.glob("*.parquet"))
        if folder.is_dir()
        else sorted({*source.glob(f"{split}.parquet"), *source.glob(f"{split}-*.parquet")})
    )
    if not files:
        raise InvalidInput(
            f"{source} has no {split}.parquet, {split}-*.parquet or {split}/*.parquet: both train and test are needed."
        )
    tables = []
    for path in files:
        try:
            tables.append(read_file(path))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise BadData(
                f"{path.name}: it is no intact Parquet file of {path.stat().st_size} bytes: {_first_line(error)}."
            ) from error
        progress(path.stat().st_size)
    try:
        table = pa.concat_tables(tables)
    except pa.ArrowException as error:
        raise BadData(f"{source}: the files of {split} have different columns: {_first_line(error)}.") from error
    if "label" not in table.column_names:
        raise BadData(
            f"{files[0].name}: it has no column label, only {', '.join(table.column_names)}: rename the one that holds the labels."
        )
    labels = table.column("label")
    if labels.null_count:
        raise BadData(f"{source}: the column label of {split} has {labels.null_count} empty values: give every example a label.")
    if pa.types.is_dictionary(labels.type):
        index = table.column_names.index("label")
        table = table.set_column(index, "label", labels.cast(labels.type.value_type))
    counts = tuple((path.name, len(part)) for path, part in zip(files, tables, strict=True))
    return Tables(table, counts, sum(path.stat().st_size for path in files))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _split(source: Path, split: str, tables: Tables, names: list[str], pictures: Mapping[str, NDArray[np.uint8]]) -> RawSplit:
    table = tables.table
    labels = table.column("label")
    if names:
        numbers = {name: number for number, name in enumerate(names)}
        target = np.array([numbers[str(value)] for value in labels.to_pylist()], np.int64)
    else:
        target = labels.to_numpy().astype(np.int64)
    columns: dict[str, NDArray[Any]] = {}
    scalars = []
    for field in table.schema:
        if field.name == "label":
            continue
        column = table.column(field.name)
        if column.null_count:
            raise BadData(
                f"{source}: the column {field.name} of {split} has {column.null_count} empty values: fill or drop them."
            )
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        if number and field.name == SAMPLE_WEIGHT:
            columns[field.name] = column.to_numpy().astype(np.float32)
        elif number:
            scalars.append(column.to_numpy())
        elif field.name in pictures:
            columns[field.name] = pictures[field.name]
        else:
            columns[field.name] = _column(f"{source}, {split}", field, column)
    if scalars:
        columns["x"] = np.stack(scalars, axis=1).astype(np.float32)
    return RawSplit(columns, target, f"{source}, {split}")


def _column(origin: str, field: pa.Field, column: pa.ChunkedArray) -> NDArray[Any]:
    written, kind = _written(field), field.type
    if pa.types.is_fixed_size_binary(kind) and written:
        dtype, shape = written
        if np.dtype(dtype).itemsize * math.prod(shape) != kind.byte_width:
            raise BadData(
                f"{origin}: the column {field.name} has {kind.byte_width} bytes a row, not {dtype} of the shape {shape}."
            )
        return np.frombuffer(b"".join(column.to_pylist()), dtype).reshape(len(column), *shape)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _lists(origin, field.name, column, written[1] if written else None)
    raise BadData(
        f"{origin}: the column {field.name} has the type {kind}, but numbers, lists of numbers or pictures are expected."
    )


def _written(field: pa.Field) -> tuple[str, tuple[int, ...]] | None:
    """The type and the shape that Delayline's own shards name; None where nothing of that kind stands."""
    try:
        found = json.loads((field.metadata or {}).get(b"delayline", b"{}"))
        dtype, shape = str(found["dtype"]), tuple(found["shape"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    plain = dtype in STORED_TYPES and len(shape) <= 32 and all(type(size) is int and 0 < size < 2**40 for size in shape)
    return (dtype, shape) if plain else None


def _lists(origin: str, name: str, column: pa.ChunkedArray, shape: tuple[int, ...] | None) -> NDArray[Any]:
    try:
        parts = [dense(chunk) for chunk in column.chunks]
        array = np.concatenate(parts) if len(parts) != 1 else parts[0]
    except pa.ArrowTypeError as error:
        raise BadData(
            f"{origin}: the lists of the column {name} hold {error}: values must be one of {', '.join(STORED_TYPES)}."
        ) from error
    except ValueError as error:
        raise BadData(
            f"{origin}: the lists of the column {name} differ in length or hold no numbers; make them one length."
        ) from error
    if not pa.types.is_fixed_size_list(column.type):
        # As Python's numbers, which these were, become arrays.
        array = array.astype({"i": np.int64, "u": np.int64, "f": np.float32}.get(array.dtype.kind, array.dtype), copy=False)
    if shape and math.prod(shape) == math.prod(array.shape[1:]):
        return array.reshape(len(column), *shape)
    return array.astype(np.float32) if array.dtype == np.float64 else array
