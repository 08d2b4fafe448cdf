"""Shards: what is encoded is decoded, for any type and shape; what is damaged is an error."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from service.datasets import shards
from service.datasets.manifest import STORED_TYPES, Feature
from service.datasets.shards import SHARD_BYTES, decode, encode, encode_into, encoded_bytes, rows_per_shard
from service.errors import Damaged

Columns = dict[str, NDArray[Any]]


def decoded(data: bytes, features: tuple[Feature, ...], rows: int) -> tuple[Columns, NDArray[np.int32]]:
    columns = {f.name: np.full((rows, *f.shape), 99, f.dtype) for f in features}
    labels = np.full(rows, -1, np.int32)
    for first, piece in decode(memoryview(data), features, rows, "key"):
        for name, values in piece.items():
            target = labels if name == "label" else columns[name]
            target[first : first + len(values)] = values
    return columns, labels


@st.composite
def examples(draw: st.DrawFn) -> tuple[tuple[Feature, ...], Columns, NDArray[np.int32]]:
    rows = draw(st.integers(1, 7))
    features, columns = [], {}
    for number in range(draw(st.integers(1, 3))):
        name, dtype = f"f{number}", draw(st.sampled_from(STORED_TYPES))
        shape = draw(st.just(()) | hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
        features.append(Feature(name, dtype, shape))
        columns[name] = draw(hnp.arrays(dtype, (rows, *shape)))
    return tuple(features), columns, draw(hnp.arrays(np.int32, rows))


@settings(deadline=None, max_examples=150)
@given(examples())
def test_any_type_and_shape_comes_back_bit_for_bit(made: tuple[tuple[Feature, ...], Columns, NDArray[np.int32]]) -> None:
    features, columns, labels = made
    found, found_labels = decoded(bytes(encode(features, columns, labels)), features, len(labels))
    np.testing.assert_array_equal(found_labels, labels)
    for name, array in columns.items():
        assert found[name].tobytes() == np.ascontiguousarray(array).tobytes(), name


@pytest.mark.parametrize("dtype", STORED_TYPES)
def test_slices_and_other_layouts_of_memory_come_back(dtype: str) -> None:
    whole = (np.arange(6 * 4 * 5) % 120).reshape(6, 4, 5).astype(dtype)
    for array in (whole[::2], whole[:, ::-1], whole.transpose(0, 2, 1), np.asfortranarray(whole), whole[2:5]):
        features = (Feature("a", dtype, array.shape[1:]),)
        found, _ = decoded(bytes(encode(features, {"a": array}, np.zeros(len(array), np.int32))), features, len(array))
        np.testing.assert_array_equal(found["a"], array)


def test_the_same_arrays_make_the_same_bytes() -> None:
    features = (Feature("a", "float32", (3,)),)
    arrays, labels = {"a": np.arange(30, dtype=np.float32).reshape(10, 3)}, np.arange(10, dtype=np.int32)
    assert bytes(encode(features, arrays, labels)) == bytes(encode(features, arrays, labels))


@settings(deadline=None, max_examples=50)
@given(examples(), st.integers(0, 5000))
def test_the_same_bytes_whatever_room_there_is(made: tuple[tuple[Feature, ...], Columns, NDArray[np.int32]], room: int) -> None:
    features, columns, labels = made
    for size in (room, encoded_bytes(features, len(labels))):
        assert encode_into(memoryview(bytearray(size)), features, columns, labels) == bytes(encode(features, columns, labels))


def test_other_programs_can_read_a_shard(tmp_path: Path) -> None:
    features = (Feature("image", "uint8", (2, 2, 1)), Feature("x", "float32", (2,)))
    arrays = {"image": np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1), "x": np.ones((2, 2), np.float32)}
    (tmp_path / "a.parquet").write_bytes(encode(features, arrays, np.array([3, 4], np.int32)))
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert rows[1] == {"image": bytes([4, 5, 6, 7]), "x": [1.0, 1.0], "label": 4}


@given(st.lists(st.tuples(st.sampled_from(STORED_TYPES), st.lists(st.integers(1, 500), max_size=3)), min_size=1, max_size=3))
def test_a_shard_holds_at_least_one_row_and_is_about_as_large_as_wanted(kinds: list[tuple[str, list[int]]]) -> None:
    features = tuple(Feature(f"f{number}", dtype, tuple(shape)) for number, (dtype, shape) in enumerate(kinds))
    example = 4 + sum(np.dtype(f.dtype).itemsize * math.prod(f.shape) for f in features)
    rows = rows_per_shard(features)
    assert rows >= 1 and (rows == 1 or rows * example <= SHARD_BYTES < (rows + 1) * example)


FEATURES = (Feature("a", "uint8", (2, 2)), Feature("b", "float32", (3,)))
GOOD = bytes(
    encode(FEATURES, {"a": np.ones((5, 2, 2), np.uint8), "b": np.ones((5, 3), np.float32)}, np.arange(5, dtype=np.int32))
)


@pytest.mark.parametrize("kept", [0, 4, 100, -1, -8])
def test_a_truncated_shard_is_damaged(kept: int) -> None:
    with pytest.raises(Damaged, match="shard key") as caught:
        decoded(GOOD[:kept], FEATURES, 5)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("features", "rows"),
    [
        (FEATURES, 4),
        (FEATURES, 6),
        ((*FEATURES, Feature("c", "uint8", (1,))), 5),
        ((Feature("a", "uint8", (2, 3)), FEATURES[1]), 5),
        ((FEATURES[0], Feature("b", "float32", (4,))), 5),
        ((FEATURES[0], Feature("b", "float32", ())), 5),
    ],
)
def test_a_shard_that_its_manifest_does_not_describe_is_damaged(features: tuple[Feature, ...], rows: int) -> None:
    with pytest.raises(Damaged, match="shard key"):
        decoded(GOOD, features, rows)


def test_a_shard_is_decoded_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "BATCH_BYTES", 2 * (4 + 4 + 12))
    pieces = [(first, piece["label"].tolist()) for first, piece in decode(memoryview(GOOD), FEATURES, 5, "key")]
    assert pieces == [(0, [0, 1]), (2, [2, 3]), (4, [4])]


@settings(deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_at_worst_an_error_of_ours(place: int, flip: int) -> None:
    data = bytearray(GOOD)
    data[place] ^= flip
    try:
        decoded(bytes(data), FEATURES, 5)
    except Damaged as error:
        assert "\n" not in str(error)
