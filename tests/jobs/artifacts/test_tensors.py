"""Safetensors files as streams, against the library's own."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from jobs.artifacts.tensors import TensorStream, tensors_from_bytes, tensors_in, tensors_to_bytes
from service.errors import Damaged

KINDS = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", ">f4"]
ARRAYS = st.sampled_from(KINDS).flatmap(
    lambda kind: npst.arrays(np.dtype(kind), npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


def whole(stream: TensorStream) -> np.ndarray:
    data = b"".join(stream)
    assert len(data) == stream.size and data == b"".join(stream)
    return np.frombuffer(bytearray(data), np.uint8)


@given(st.dictionaries(st.text('abc/ 0_é"', min_size=1), ARRAYS, max_size=5))
def test_a_stream_is_a_file_that_the_library_reads_and_gives_the_arrays_back(tensors: dict[str, np.ndarray]) -> None:
    buffer = whole(TensorStream(tensors))
    for read in (tensors_in(buffer), tensors_from_bytes(buffer.tobytes())):
        assert set(read) == set(tensors)
        for name, array in tensors.items():
            np.testing.assert_array_equal(read[name], array)
            assert read[name].shape == array.shape and read[name].dtype == array.dtype.newbyteorder("=")
    if all(array.dtype.isnative for array in tensors.values()):
        for name, array in tensors_in(np.frombuffer(tensors_to_bytes(tensors), np.uint8)).items():
            assert array.tobytes() == tensors[name].tobytes()


@pytest.mark.parametrize("kind", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_types_that_numpy_lacks(kind: type) -> None:
    array = (np.arange(-8, 8, dtype=np.float32) / 3).astype(kind)
    read = tensors_in(whole(TensorStream({"a": array, "b": np.float32([1])})))["a"]
    assert read.dtype == array.dtype and read.tobytes() == array.tobytes()


def test_nothing_is_copied_on_the_way_out_or_in() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    _, piece = TensorStream({"a": array})
    assert np.shares_memory(np.frombuffer(piece, np.uint8), array)
    buffer = whole(TensorStream({"a": array, "b": np.zeros(3, np.int8)}))
    assert all(np.shares_memory(read, buffer) for read in tensors_in(buffer).values())


@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
def test_what_is_no_such_file_is_damaged(data: bytes, place: int, value: int) -> None:
    good = bytearray(b"".join(TensorStream({"a": np.zeros((3, 2), np.float32)})))
    good[place % len(good)] = value
    for candidate in (data, bytes(good), bytes(good[:-4])):
        try:
            for array in tensors_in(np.frombuffer(candidate, np.uint8)).values():
                assert array.nbytes <= len(candidate)
        except Damaged:
            continue


@pytest.mark.parametrize(
    "header",
    [b"[" * 100_000, b'{"a": {"dtype": "F32", "shape": [1e3, "b"], "data_offsets": [0, 0]}}', b"{}" + b" " * 9 + b"\xff"],
)
def test_a_header_of_any_kind_is_damaged(header: bytes) -> None:
    for length in (len(header), 2**62):
        with pytest.raises(Damaged):
            tensors_in(np.frombuffer(length.to_bytes(8, "little") + header, np.uint8))
