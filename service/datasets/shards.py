"""Arrays as Parquet and back, without a copy where the format allows it.

Uint8 arrays are fixed-size binary columns, other arrays fixed-size lists, single numbers plain columns; the field's
metadata holds the shape. Nothing is compressed: photographs hardly shrink, and decoding would cost more than reading
(measured on CIFAR-10: zstd saves 8% of the bytes and halves the speed).
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from service.datasets.manifest import Feature, example_bytes
from service.errors import Damaged

SHARD_BYTES = 24 * 1024**2
"""The parts of parallel transfers are 8 to 16 MiB; fewer, larger shards leave nothing to do side by side (assumed)."""

PAGE_BYTES = 256 * 1024
"""Of a Parquet page: it stays in the processor's cache while it is made (measured: half the time of pages of 4 MiB)."""


BATCH_BYTES = 1024**2
"""Of the pieces that a shard is decoded in: they stay in the processor's cache until they are written (assumed)."""


def rows_per_shard(features: tuple[Feature, ...]) -> int:
    """How many examples make a shard of about SHARD_BYTES."""
    return max(1, SHARD_BYTES // example_bytes(features))


def encode(features: tuple[Feature, ...], columns: Mapping[str, NDArray[Any]], labels: NDArray[np.int32]) -> pa.Buffer:
    """A Parquet file with one row for each example."""
    sink = pa.BufferOutputStream()
    _write(to_table(features, columns, labels), sink)
    return sink.getvalue()


def encode_into(
    room: memoryview, features: tuple[Feature, ...], columns: Mapping[str, NDArray[Any]], labels: NDArray[np.int32]
) -> memoryview:
    """What `encode` makes, in the memory given, or in memory of its own where that is too small."""
    with pa.FixedSizeBufferWriter(pa.py_buffer(room)) as sink:
        try:
            _write(to_table(features, columns, labels), sink)
            return room[: sink.tell()]
        except (pa.ArrowInvalid, OSError):
            return memoryview(encode(features, columns, labels)).cast("B")


def encoded_bytes(features: tuple[Feature, ...], rows: int) -> int:
    """The memory that a shard's file takes if each number takes its own size; levels of small lists add to it."""
    return 1024**2 + rows * example_bytes(features)


def _write(table: pa.Table, sink: pa.NativeFile) -> None:
    pq.write_table(table, sink, compression="none", use_dictionary=False, write_statistics=False, data_page_size=PAGE_BYTES)


def to_table(features: tuple[Feature, ...], columns: Mapping[str, NDArray[Any]], labels: NDArray[np.int32]) -> pa.Table:
    """The arrays as a table with one row for each example, without a copy."""
    arrays = [_to_arrow(feature, columns[feature.name]) for feature in features]
    fields = [
        pa.field(
            feature.name,
            array.type,
            nullable=False,
            metadata={"delayline": json.dumps(_description(feature))},
        )
        for feature, array in zip(features, arrays, strict=True)
    ]
    schema = pa.schema([*fields, pa.field("label", pa.int32(), nullable=False)])
    return pa.Table.from_arrays([*arrays, pa.array(labels, pa.int32())], schema=schema)


def _description(feature: Feature) -> dict[str, Any]:
    named = {"columns": feature.columns} if feature.columns else {}
    return {"dtype": feature.dtype, "shape": feature.shape, **named}


def _to_arrow(feature: Feature, array: NDArray[Any]) -> pa.Array:
    size = math.prod(feature.shape)
    flat = np.ascontiguousarray(array).reshape(-1)
    if not feature.shape:
        return pa.array(flat)
    if feature.dtype == "uint8":
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(array), [None, pa.py_buffer(flat)])
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), size)


def decode(data: memoryview, features: tuple[Feature, ...], rows: int, key: str) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
    """A shard's examples in pieces of about BATCH_BYTES: the first one's number, and arrays [piece, *shape] by name.

    `label` is among them. The arrays hold until the next piece. Raise Damaged when the file is not one of `rows` examples.
    """
    kinds = (*features, Feature("label", "int32", ()))
    size = max(1, BATCH_BYTES // example_bytes(features))
    try:
        file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(data)), pre_buffer=False)
        if file.metadata.num_rows != rows:
            raise Damaged(
                f"The shard {key} has {file.metadata.num_rows} rows and its manifest says {rows}: import the dataset again."
            )
        first = 0
        for batch in file.iter_batches(batch_size=size, use_threads=False):
            yield first, {kind.name: _values(batch.column(kind.name), kind) for kind in kinds}
            first += batch.num_rows
        if first != rows:
            raise ValueError(f"{first} rows instead of {rows}")
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise Damaged(
            f"The shard {key} is not the Parquet file that Delayline wrote ({reason}): import the dataset again."
        ) from error


def copy_table(
    table: pa.Table, features: tuple[Feature, ...], columns: Mapping[str, NDArray[Any]], labels: NDArray[np.int32]
) -> None:
    """Write the rows of a table that `to_table` made into arrays that are as long."""
    for feature in features:
        _copy_column(table.column(feature.name), feature, columns[feature.name])
    _copy_column(table.column("label"), Feature("label", "int32", ()), labels)


def _copy_column(column: pa.ChunkedArray, feature: Feature, target: NDArray[Any]) -> None:
    first = 0
    for chunk in column.chunks:
        target[first : first + len(chunk)] = _values(chunk, feature)
        first += len(chunk)


def _values(chunk: pa.Array, feature: Feature) -> NDArray[Any]:
    """An array of Arrow as [rows, *shape] in the feature's type, without a copy where that is possible."""
    size = math.prod(feature.shape)
    if pa.types.is_fixed_size_binary(chunk.type):
        values = np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * size : (chunk.offset + len(chunk)) * size]
    elif pa.types.is_fixed_size_list(chunk.type):
        values = chunk.flatten().to_numpy(zero_copy_only=False)
    else:
        values = chunk.to_numpy(zero_copy_only=False)
    return values.reshape(len(chunk), *feature.shape).astype(feature.dtype, copy=False)
