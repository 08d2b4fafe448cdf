"""Parquet files: `train.parquet` and `test.parquet`, or folders `train` and `test` of them; the column `label` and features."""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from service.datasets.pictures import GREY, to_array
from service.datasets.raw import RawDataset, RawSplit
from service.errors import BadData, InvalidInput


def read(source: Path, progress: Callable[[int], None]) -> RawDataset:
    """Read both splits. Lists of equal length become arrays, encoded pictures become images, single numbers together `x`."""
    tables = {split: _table(source, split, progress) for split in ("train", "test")}
    names: list[str] = []
    if not all(pa.types.is_integer(table.schema.field("label").type) for table in tables.values()):
        texts = {str(value) for table in tables.values() for value in table.column("label").to_pylist()}
        if not all(_is_text(table.schema.field("label").type) for table in tables.values()):
            raise BadData(
                f"{source}: the column label must hold whole numbers or names, but holds {tables['train'].schema.field('label').type}."
            )
        names = sorted(texts)
    return RawDataset({split: _split(source, split, table, names) for split, table in tables.items()}, tuple(names) or None)


def _table(source: Path, split: str, progress: Callable[[int], None]) -> pa.Table:
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
            tables.append(pq.read_table(path))
        except (pa.ArrowException, OSError) as error:
            raise BadData(
                f"{path.name}: it is no intact Parquet file of {path.stat().st_size} bytes: {str(error).splitlines()[0][:200]}."
            ) from error
        progress(path.stat().st_size)
    try:
        table = pa.concat_tables(tables)
    except pa.ArrowException as error:
        raise BadData(f"{source}: the files of {split} have different columns: {str(error).splitlines()[0][:200]}.") from error
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
    return table


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _split(source: Path, split: str, table: pa.Table, names: list[str]) -> RawSplit:
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
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
            scalars.append(column.to_numpy())
        else:
            columns[field.name] = _column(f"{source}, {split}", field, column)
    if scalars:
        columns["x"] = np.stack(scalars, axis=1).astype(np.float32)
    return RawSplit(columns, target, f"{source}, {split}")


def _column(origin: str, field: pa.Field, column: pa.ChunkedArray) -> NDArray[Any]:
    written = json.loads((field.metadata or {}).get(b"delayline", b"{}"))
    kind = field.type
    if pa.types.is_fixed_size_binary(kind) and written:
        flat = np.frombuffer(b"".join(column.to_pylist()), written["dtype"])
        return flat.reshape(len(column), *written["shape"])
    if pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _pictures(origin, field.name, column.to_pylist())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _lists(origin, field.name, column, written.get("shape"))
    raise BadData(
        f"{origin}: the column {field.name} has the type {kind}, but numbers, lists of numbers or pictures are expected."
    )


def _lists(origin: str, name: str, column: pa.ChunkedArray, shape: list[int] | None) -> NDArray[Any]:
    try:
        array = np.asarray(column.to_pylist() if not pa.types.is_fixed_size_list(column.type) else _flat(column))
    except ValueError as error:
        raise BadData(f"{origin}: the lists of the column {name} differ in length; make them one length.") from error
    if array.dtype == object:
        raise BadData(f"{origin}: the lists of the column {name} differ in length or hold no numbers.")
    if shape and math.prod(shape) == math.prod(array.shape[1:]):
        return array.reshape(len(column), *shape)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _flat(column: pa.ChunkedArray) -> NDArray[Any]:
    values = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks])
    return values.reshape(len(column), -1)


def _pictures(origin: str, name: str, values: list[Any]) -> NDArray[Any]:
    images = []
    for row, value in enumerate(values):
        data = value.get("bytes") if isinstance(value, dict) else value
        try:
            with Image.open(io.BytesIO(data or b""), formats=("PNG", "JPEG")) as image:
                images.append(to_array(image, image.mode in GREY))
        except (UnidentifiedImageError, OSError, ValueError, TypeError) as error:
            raise BadData(f"{origin}: row {row} of the column {name} is no PNG or JPEG picture.") from error
        if images[-1].shape != images[0].shape:
            raise BadData(
                f"{origin}: the picture of row {row} of {name} has the shape {images[-1].shape}, but row 0 has {images[0].shape}."
            )
    return np.stack(images) if images else np.zeros((0, 1, 1, 1), np.uint8)
