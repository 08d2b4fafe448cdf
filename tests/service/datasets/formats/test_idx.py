"""The idx format: what is read, and what is refused with the file's name and the offset."""

import gzip
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from service.datasets.formats.idx import parse, read, read_file
from service.errors import BadData

Refused = Callable[..., str]
TRAIN = "train-images-idx3-ubyte"
TYPES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def silent(_: int) -> None:
    return


def encode(array: NDArray[Any]) -> bytes:
    head = bytes([0, 0, TYPES[array.dtype.name], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@given(
    st.sampled_from(sorted(TYPES)).flatmap(
        lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
    )
)
def test_every_type_and_shape_comes_back(array: NDArray[Any]) -> None:
    found = parse(encode(array), "file")
    assert found.dtype == array.dtype and found.dtype.isnative
    np.testing.assert_array_equal(found, array)


@given(st.binary(max_size=64))
def test_noise_is_refused_in_our_words(data: bytes) -> None:
    try:
        parse(b"\0\0\x08" + data, "noise")
    except BadData as error:
        assert "noise" in str(error) and "offset" in str(error)


@given(st.binary(max_size=80))
def test_gzipped_noise_is_refused_in_our_words(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.gz"
    path.write_bytes(b"\x1f\x8b" + data)
    with pytest.raises(BadData, match=r"noise\.gz"):
        read_file(path, silent)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder_of_four_files_is_read(idx_folder: Path, zipped: bool) -> None:
    if zipped:
        for path in list(idx_folder.iterdir()):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    moved: list[int] = []
    raw = read(idx_folder, moved.append)
    raw.check()
    assert raw.splits["train"].columns["image"].shape == (30, 5, 4, 1) and raw.splits["test"].columns["image"].shape == (
        10,
        5,
        4,
        1,
    )
    assert raw.splits["train"].columns["image"].reshape(-1)[:22].tolist() == list(range(22))
    assert raw.splits["test"].labels.tolist() == list(range(10)) and sum(moved) > 0


def test_gzip_files_of_several_members_are_one(idx_folder: Path) -> None:
    path = idx_folder / TRAIN
    data = path.read_bytes()
    path.write_bytes(gzip.compress(data[:100]) + gzip.compress(data[100:]))
    assert read_file(path, silent).shape == (30, 5, 4)


@pytest.mark.parametrize("kept", [0, 3, 10, 16, 300])
def test_a_truncated_file_is_named_with_the_offset(idx_folder: Path, refused: Refused, kept: int) -> None:
    path = idx_folder / TRAIN
    path.write_bytes(path.read_bytes()[:kept])
    refused(idx_folder, "idx", 3, TRAIN, f"offset {kept if kept > 3 else 0}")


@pytest.mark.parametrize("kept", [5, 20, 40])
def test_a_truncated_gzip_file_is_named_with_the_offset(idx_folder: Path, refused: Refused, kept: int) -> None:
    path = idx_folder / f"{TRAIN}.gz"
    path.write_bytes(gzip.compress((idx_folder / TRAIN).read_bytes())[:kept])
    (idx_folder / TRAIN).unlink()
    refused(idx_folder, "idx", 3, f"{TRAIN}.gz", "offset", "fetch the file again")


def test_a_gzip_file_with_a_flipped_byte_is_refused(idx_folder: Path, refused: Refused) -> None:
    packed = bytearray(gzip.compress((idx_folder / TRAIN).read_bytes(), 0))
    packed[200] ^= 0xFF
    (idx_folder / TRAIN).write_bytes(packed)
    refused(idx_folder, "idx", 3, TRAIN, "damaged")


def test_bytes_behind_the_end_are_refused(idx_folder: Path, refused: Refused) -> None:
    path = idx_folder / TRAIN
    path.write_bytes(path.read_bytes() + b"more")
    refused(idx_folder, "idx", 3, TRAIN, "offset 616")


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("count", [2**31, 2**32 - 1])
def test_a_header_that_claims_too_much_is_refused(idx_folder: Path, refused: Refused, count: int, zipped: bool) -> None:
    head = b"\0\0\x08\x03" + struct.pack(">3I", count, 28, 28)
    (idx_folder / TRAIN).write_bytes(gzip.compress(head) if zipped else head)
    refused(idx_folder, "idx", 3, TRAIN, str(count), "offset 4")


@pytest.mark.parametrize(
    "head",
    [
        b"\x89PNG\r\n\x1a\n",
        b"PK\x03\x04",
        b"\0\0\x07\x03",
        b"\0\0\x08\0",
        b"<html>",
        b"\0\0\x08\xff",
        b"\0\0\x08\x46" + bytes([0, 0, 0, 1] * 70),
    ],
)
def test_what_is_no_idx_file_is_named(idx_folder: Path, refused: Refused, head: bytes) -> None:
    (idx_folder / TRAIN).write_bytes(head + bytes(600))
    refused(idx_folder, "idx", 3, TRAIN, "offset")


BOMB = """
import gzip, resource, struct, sys
from pathlib import Path
from service.datasets.formats.idx import read_file
from service.errors import BadData
try:
    read_file(Path(sys.argv[1]), lambda _: None)
except BadData as error:
    print(error)
status = Path("/proc/self/status")
if status.exists():
    # Linux counts in ru_maxrss what the process that started this one held.
    print(int(status.read_text().split("VmHWM:")[1].split()[0]) // 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20)
"""


@pytest.mark.parametrize("claimed", [10, 2**22])
def test_a_gzip_bomb_is_refused_without_unpacking_it(tmp_path: Path, claimed: int) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"\0\0\x08\x03" + struct.pack(">3I", claimed, 28, 28))
        for _ in range(400 if claimed == 10 else 10):
            file.write(bytes(2**20))
    assert path.stat().st_size < 4 * 2**20
    limit = (8 * 2**30, 8 * 2**30)
    done = subprocess.run(
        [sys.executable, "-c", BOMB, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),
    )
    message, _, used = done.stdout.strip().rpartition("\n")
    assert "bomb.gz" in message and "offset" in message and int(used) < 400


def test_a_bomb_in_a_second_gzip_member_is_refused(idx_folder: Path, refused: Refused) -> None:
    path = idx_folder / TRAIN
    path.write_bytes(gzip.compress(path.read_bytes()) + gzip.compress(bytes(2**24)))
    refused(idx_folder, "idx", 3, TRAIN)


def test_unequal_numbers_of_images_and_labels_are_errors(
    idx_folder: Path, refused: Refused, idx_bytes: Callable[[NDArray[Any]], bytes]
) -> None:
    (idx_folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(29, np.uint8)))
    refused(idx_folder, "idx", 3, TRAIN, "30 images", "29 labels")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.full(30, -1, np.int32), "example 0 has the label -1"),
        (np.array([0] * 29 + [2**30], np.int32), "example 29 has the label 1073741824"),
        (np.zeros(30, np.float32), "whole number"),
        (np.zeros((30, 2), np.uint8), "one dimension"),
    ],
)
def test_labels_that_are_none_are_refused(
    idx_folder: Path, refused: Refused, idx_bytes: Callable[[NDArray[Any]], bytes], labels: NDArray[Any], words: str
) -> None:
    (idx_folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    refused(idx_folder, "idx", 3, "train-labels-idx1-ubyte", words)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_a_label_beyond_the_known_classes_is_refused(
    idx_folder: Path, refused: Refused, idx_bytes: Callable[[NDArray[Any]], bytes], name: str
) -> None:
    (idx_folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.full(30, 10, np.uint8)))
    refused(idx_folder, None, 3, "train-labels-idx1-ubyte: example 0 has the label 10", "less than 10", name=name)


def test_pictures_of_another_size_in_test_are_refused(
    idx_folder: Path, refused: Refused, idx_bytes: Callable[[NDArray[Any]], bytes]
) -> None:
    (idx_folder / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((10, 5, 5), np.uint8)))
    refused(idx_folder, "idx", 3, "(5, 5, 1)", "(5, 4, 1)")


def test_an_empty_split_is_refused(idx_folder: Path, refused: Refused, idx_bytes: Callable[[NDArray[Any]], bytes]) -> None:
    (idx_folder / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((0, 5, 4), np.uint8)))
    (idx_folder / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(0, np.uint8)))
    refused(idx_folder, "idx", 3, "test split is empty")


@pytest.mark.parametrize("shape", [(30, 0, 4), (30,)])
def test_pictures_of_no_size_are_no_pictures(
    idx_folder: Path, idx_bytes: Callable[[NDArray[Any]], bytes], refused: Refused, shape: tuple[int, ...]
) -> None:
    for prefix, rows in (("train", 30), ("t10k", 10)):
        (idx_folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((rows, *shape[1:]), np.uint8)))
    if 0 in shape:
        refused(idx_folder, "idx", 3, "holds nothing")
    else:
        assert read(idx_folder, silent).check()[0][0].shape == ()


@pytest.mark.parametrize("name", [TRAIN, "t10k-labels-idx1-ubyte"])
def test_a_missing_file_is_named(idx_folder: Path, refused: Refused, name: str) -> None:
    (idx_folder / name).unlink()
    refused(idx_folder, "idx", 2, name.partition("-idx")[0], "four idx files")


def test_a_file_is_no_folder_of_idx_files(idx_folder: Path, refused: Refused) -> None:
    refused(idx_folder / TRAIN, "idx", 2, "no folder")
