"""The idx format of MNIST and Fashion-MNIST (LeCun, Cortes, Burges), plain or gzipped."""

import gzip
import io
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.datasets.choices import NONE, Choices
from service.datasets.raw import RawDataset, RawSplit
from service.datasets.unpacked import most_unpacked
from service.errors import BadData, InvalidInput

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_PREFIXES = {"train": ("train",), "test": ("t10k", "test")}
MOST_DIMENSIONS = 32
"""More than any array of NumPy had before its version 2."""
MOST_BYTES = 64 * 1024**3
"""No idx file of images is larger than that; a header that claims more is wrong (assumed)."""


def read(source: Path, progress: Callable[[int], None], choices: Choices = NONE) -> RawDataset:
    """Read `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same of `t10k` (or `test`), `.gz` or not, in a folder."""
    if not source.is_dir():
        raise InvalidInput(
            f"{source} is no folder: idx files come as a folder of train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz], t10k-…."
        )
    splits = {}
    for split, prefixes in _PREFIXES.items():
        images_file, labels_file = (_find(source, prefixes, kind) for kind in ("images", "labels"))
        images, labels = read_file(images_file, progress), read_file(labels_file, progress)
        if images.ndim == 3:
            images = images[..., np.newaxis]
        if labels.ndim != 1:
            raise BadData(f"{labels_file.name}: labels must have one dimension, but the header at offset 3 says {labels.ndim}.")
        if len(images) != len(labels):
            raise BadData(
                f"{images_file.name} has {len(images)} images and {labels_file.name} {len(labels)} labels: their numbers must be equal."
            )
        name = "image" if images.ndim == 4 else "x"
        splits[split] = RawSplit(
            {name: images}, labels.astype(np.int64) if labels.dtype.kind in "iu" else labels, labels_file.name
        )
    return RawDataset(splits)


def _find(folder: Path, prefixes: tuple[str, ...], kind: str) -> Path:
    for prefix in prefixes:
        found = sorted(path for path in folder.glob(f"{prefix}-{kind}*") if path.is_file())
        if found:
            return found[0]
    raise InvalidInput(f"{folder} has no file {prefixes[0]}-{kind}-idx*-ubyte[.gz]: put the four idx files into it.")


def read_file(path: Path, progress: Callable[[int], None]) -> NDArray[Any]:
    """The array of one idx file; raise BadData with the file's name and the offset of what is wrong."""
    packed = path.read_bytes()
    progress(len(packed))
    if packed[:2] != b"\x1f\x8b":
        return parse(packed, path.name)
    try:
        unpacker = zlib.decompressobj(wbits=31)
        # The header says how many bytes there are: more than that is never unpacked.
        head = unpacker.decompress(packed, 4 + 4 * 255)
        _, shape, size = _header(head, path.name)
        if size > most_unpacked(len(packed)):
            raise BadData(
                f"{path.name}: its header at offset 4 claims the shape {shape}, {size} bytes out of {len(packed)} packed ones: unpack it yourself if so."
            )
        data = head + unpacker.decompress(unpacker.unconsumed_tail, max(1, size - len(head) + 1))
        if not unpacker.eof and len(data) <= size:
            data += unpacker.flush(1)
    except zlib.error as error:
        raise BadData(f"{path.name}: the gzip data is damaged ({error}): fetch the file again.") from error
    if not unpacker.eof and len(data) < size:
        raise BadData(f"{path.name}: the gzip data ends early, at offset {len(packed)}: fetch the file again.")
    if unpacker.eof and unpacker.unused_data.strip(b"\0"):
        data += _rest(unpacker.unused_data, path.name, size - len(data) + 1)
    return parse(data, path.name)


def _rest(packed: bytes, name: str, most: int) -> bytes:
    """Further gzip members after the first."""
    try:
        return gzip.GzipFile(fileobj=io.BytesIO(packed)).read(max(1, most))
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(f"{name}: after the gzip data follows something else ({error}): fetch the file again.") from error


def parse(data: bytes, name: str) -> NDArray[Any]:
    """The array of an idx file's bytes."""
    kind, shape, size = _header(data, name)
    if len(data) < size:
        raise BadData(
            f"{name}: it ends at offset {len(data)}, but its header promises {size} bytes (shape {shape}): fetch the file again."
        )
    if len(data) > size:
        raise BadData(
            f"{name}: it continues after offset {size}, where its header (shape {shape}) says that it ends: fetch the file again."
        )
    start = 4 + 4 * len(shape)
    array = np.frombuffer(data, dtype=kind, offset=start).reshape(shape)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _header(data: bytes, name: str) -> tuple[str, tuple[int, ...], int]:
    """Type, shape and the whole file's size."""
    if len(data) < 4 or data[:2] != b"\0\0":
        raise BadData(
            f"{name}: no idx file begins with {data[:4].hex() or 'nothing'} at offset 0; expected 0000, a type and the dimensions: fetch the file again."
        )
    kind, dimensions = _TYPES.get(data[2]), data[3]
    if kind is None or not 0 < dimensions <= MOST_DIMENSIONS:
        raise BadData(
            f"{name}: the idx header has the type {data[2]:#04x} and {dimensions} dimensions at offset 2, which are not valid: fetch the file again."
        )
    if len(data) < 4 + 4 * dimensions:
        raise BadData(f"{name}: it ends inside its header, at offset {len(data)}: fetch the file again.")
    shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    size = 4 + 4 * dimensions + np.dtype(kind).itemsize * math.prod(shape)
    if size > MOST_BYTES:
        raise BadData(
            f"{name}: its header at offset 4 claims the shape {shape}, {size} bytes: no such file is that large; it is damaged, fetch it again."
        )
    return kind, shape, size
