"""Original files of every format, small."""

import functools
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.datasets.importer import import_dataset
from service.datasets.manifest import Manifest
from service.errors import DelaylineError
from service.storage.base import Store

IDX_TYPES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx(array: NDArray[Any]) -> bytes:
    """An idx file's bytes, as the format's authors describe them."""
    head = bytes([0, 0, IDX_TYPES[array.dtype.name], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def cifar_batch(rows: int, first: int = 0, labels: str = "labels", classes: int = 10) -> bytes:
    """A pickled batch of images that each hold their number."""
    numbers = np.arange(first, first + rows)
    pixels = np.repeat((numbers % 256).astype(np.uint8)[:, np.newaxis], 3072, axis=1)
    return pickle.dumps({b"data": pixels, labels.encode(): [int(number) % classes for number in numbers]}, protocol=2)


@pytest.fixture
def idx_bytes() -> Callable[[NDArray[Any]], bytes]:
    return idx


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """Thirty pictures of 5 × 4 for training and ten to test."""
    folder = tmp_path / "idx"
    folder.mkdir()
    for prefix, rows in (("train", 30), ("t10k", 10)):
        pixels = np.arange(rows * 20, dtype=np.int64).reshape(rows, 5, 4) % 251
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(pixels.astype(np.uint8)))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx((np.arange(rows) % 10).astype(np.uint8)))
    return folder


def png_of_one_colour(width: int, height: int, rows: int | None = None, colour: bool = False) -> bytes:
    """A small PNG of any number of pixels, of which it holds those of `rows` lines, made without its pixels in memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer, line = zlib.compressobj(9), bytes(1 + width * (3 if colour else 1))
    pixels = b"".join(packer.compress(line) for _ in range(height if rows is None else rows)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2 if colour else 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture(scope="session")
def flat_png() -> Callable[..., bytes]:
    return functools.cache(png_of_one_colour)


@pytest.fixture
def make_batch() -> Callable[..., bytes]:
    return cifar_batch


@pytest.fixture
def cifar_folder(tmp_path: Path) -> Path:
    """CIFAR-10 of seven images a batch."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number in range(1, 6):
        (folder / f"data_batch_{number}").write_bytes(cifar_batch(7, 7 * (number - 1)))
    (folder / "test_batch").write_bytes(cifar_batch(5))
    names = [f"class-{number}".encode() for number in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}, protocol=2))
    return folder


def shapes(rows: int) -> dict[str, NDArray[Any]]:
    return {"x": np.arange(rows * 6, dtype=np.float32).reshape(rows, 6), "y": np.arange(rows) % 3}


@pytest.fixture
def npz_arrays() -> dict[str, NDArray[Any]]:
    """Twelve examples for training and five to test, of six numbers each."""
    return {f"{name}_{split}": array for split, rows in (("train", 12), ("test", 5)) for name, array in shapes(rows).items()}


@pytest.fixture
def imported(local_store: Store, npz_arrays: dict[str, NDArray[Any]], tmp_path: Path) -> Manifest:
    """A dataset in the store, in three shards or more."""
    np.savez(tmp_path / "small.npz", **npz_arrays)
    return import_dataset(local_store, "small", str(tmp_path / "small.npz"), "npz")


@pytest.fixture
def refused(local_store: Store) -> Callable[..., str]:
    """Imports what must be refused: in one sentence, with the exit code, and nothing left in the store."""

    def attempt(source: Path | None, format_name: str | None, code: int, *words: str, name: str = "bad") -> str:
        with pytest.raises(DelaylineError) as caught:
            import_dataset(local_store, name, str(source) if source else None, format_name)
        text = str(caught.value)
        assert caught.value.exit_code == code, text
        assert "\n" not in text and len(text) < 600 and text.endswith("."), text
        for word in words:
            assert word in text, text
        assert list(local_store.objects("")) == []
        return text

    return attempt
