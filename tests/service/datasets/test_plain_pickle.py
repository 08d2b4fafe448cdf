"""Pickles of plain data: what Python's own unpickler makes of them, and bytes that would make it work for hours."""

import io
import pickle
import resource
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.datasets import plain_pickle
from service.datasets.plain_pickle import read_pickle
from service.errors import BadData

texts = st.text(max_size=20) | st.binary(max_size=20)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**100), 2**100) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=5) | st.tuples(inner, inner) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
arrays = hnp.arrays(
    hnp.integer_dtypes(endianness="=") | hnp.floating_dtypes(endianness="="),
    hnp.array_shapes(min_dims=0, min_side=0, max_dims=3),
    elements={"allow_nan": False},
)


def read(data: bytes) -> Any:
    return read_pickle(io.BytesIO(data), "batch")[0]


@given(st.dictionaries(texts, plain, max_size=5), st.integers(0, 5))
def test_plain_values_are_read_as_python_reads_them(value: Any, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


@given(arrays, st.sampled_from([2, 4]), st.booleans())
def test_arrays_are_read_as_python_reads_them(array: Any, protocol: int, by_columns: bool) -> None:
    stored = {b"data": np.asfortranarray(array) if by_columns else array}
    found = read(pickle.dumps(stored, protocol))[b"data"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_the_other_order_of_bytes_is_kept() -> None:
    array = np.arange(6, dtype=">u4").reshape(2, 3)
    np.testing.assert_array_equal(read(pickle.dumps({"a": array}, 2))["a"], array)


def test_texts_as_python_2_wrote_them_are_bytes() -> None:
    assert read(b"(dp0\nS'labels'\np1\n(lp2\nI3\naI01\nasS'it\\'s'\nL5L\ns.") == {b"labels": [3, True], b"it's": 5}


def nested(levels: int) -> bytes:
    """A tuple of twice the same tuple of twice the same, and so on."""
    value = b"\x80\x02K\x01K\x02\x86q\x00"
    for level in range(levels):
        value += b"h" + bytes([level]) + b"h" + bytes([level]) + b"\x86q" + bytes([level + 1])
    return value


def array_of(shape: str, data: bytes) -> bytes:
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + shape.encode()
        + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R\x89"
        + data
        + b"tb."
    )


HUGE = struct.pack("<I", 2**31 - 1)
BOMBS: dict[str, Callable[[], bytes]] = {
    "a tuple of tuples as a key": lambda: nested(200) + b"}h\xc8K\x01s.",
    "tuples as the arguments of encode": lambda: nested(200) + b"0c_codecs\nencode\nh\xc8\x85R.",
    "tuples as a dtype": lambda: nested(200) + b"0cnumpy\ndtype\nh\xc8\x85R.",
    "tuples as a persistent name": lambda: nested(200) + b"Q.",
    "a frozen set of tuples": lambda: nested(200) + b"0(h\xc8\x91.",
    "a deep tuple as a key": lambda: b"\x80\x02})" + b"\x85" * 1_000_000 + b"Ns.",
    "integers that collide as keys": lambda: (
        b"\x80\x02}(" + b"".join(b"\x8a\x0e" + (n * (2**61 - 1)).to_bytes(14, "little") + b"N" for n in range(50_000)) + b"u."
    ),
    "a text of eight exabytes": lambda: b"\x80\x04\x8d" + struct.pack("<Q", 2**63 - 1) + b"x.",
    "bytes of two gigabytes": lambda: b"\x80\x03B" + HUGE + b"x.",
    "a frame of eight exabytes": lambda: b"\x80\x04\x95" + struct.pack("<Q", 2**63 - 1) + b"N.",
    "a number of two gigabytes": lambda: b"\x80\x02\x8b" + HUGE + b"x.",
    "a number of a million digits": lambda: b"I" + b"9" * 1_000_000 + b"\n.",
    "a text that is encoded again and again": lambda: (
        b"\x80\x02c_codecs\nencode\nq\x00X\x40\x42\x0f\x00" + b"a" * 1_000_000 + b"X\x06\x00\x00\x00latin1\x86q\x01"
        b"](" + b"h\x00h\x01R" * 5000 + b"e."
    ),
    "an array larger than its bytes": lambda: array_of("J\xff\xff\xff\x7fK\xff\x86", b"U\x01x"),
    "an array of a list": lambda: array_of("K\x01\x85", b"]K\x01a"),
    "an array without its bytes": lambda: b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85\x85R.",
    "values without end": lambda: b"\x80\x02(" + b"]" * 5_000_000 + b"l.",
}


@pytest.mark.parametrize("what", BOMBS)
def test_what_would_work_for_long_is_refused_soon(what: str) -> None:
    data = BOMBS[what]()
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(BadData, match="batch: ") as caught:
        read(data)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    # On an idle machine they take 2 ms, and those of five million bytes 4 s and 500 MB.
    assert time.process_time() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700_000


def test_a_memo_takes_room_for_what_it_holds_alone() -> None:
    assert read(b"\x80\x02Nr" + HUGE + b"j" + HUGE + b"\x86.") == (None, None)


@pytest.mark.parametrize("levels", [20, 26, 200])
def test_shared_tuples_cost_nothing_where_nobody_looks_into_them(levels: int) -> None:
    began = time.process_time()
    assert read(nested(levels) + b"\x85.")
    assert time.process_time() - began < 1


@given(st.binary(max_size=80))
def test_noise_is_a_value_or_a_refusal(data: bytes) -> None:
    try:
        read(b"\x80\x02" + data)
    except BadData as error:
        assert "\n" not in str(error)


@given(st.data())
def test_a_changed_byte_is_a_value_or_a_refusal(data: st.DataObject) -> None:
    content = bytearray(pickle.dumps({b"data": np.zeros((2, 3), np.uint8), b"labels": [0, 1], "x": (1, 2.0)}, 2))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(content))
    except BadData as error:
        assert "\n" not in str(error)


def test_each_instruction_is_one_that_python_has() -> None:
    import pickletools

    assert set(plain_pickle.ACTIONS) <= {code.code.encode("latin1") for code in pickletools.opcodes}
