"""CIFAR-10 and CIFAR-100 as their authors publish them (Krizhevsky 2009): pickled batches, in a folder or a tar file.

A pickle can call any function and work for hours, so these are read as plain data alone (`plain_pickle`).
"""

import functools
import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from service.datasets.choices import NONE, Choices
from service.datasets.plain_pickle import read_pickle
from service.datasets.raw import MOST_CLASSES, RawDataset, RawSplit
from service.datasets.unpacked import Unpacked
from service.errors import BadData, InvalidInput

SIDE = 32
PIXELS = 3 * SIDE * SIDE
MOST_BYTES = 512 * 1024**2
"""A batch file; the largest, CIFAR-100's training set, has 155 MB."""
MOST_MEMBERS = 10_000
"""Of a tar file (assumed)."""
TAR_BUFFER = 1024**2
READERS = 2
"""Files that are read and brought into order at a time."""
_TEN = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",), "names": ("batches.meta",)}
_TEN_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""As batches.meta has them; some copies come without that file."""
_HUNDRED = {"train": ("train",), "test": ("test",), "names": ("meta",)}

_SPENT: Any = None
"""In the place of a result that is released."""

Opener = Callable[[], BinaryIO]


def read(source: Path, progress: Callable[[int], None], choices: Choices = NONE) -> RawDataset:
    """Read the python version of CIFAR-10 or CIFAR-100 from a folder, a folder around it, or a tar file."""
    files = _tar_files(source) if source.is_file() else _folder_files(source)
    layout = _TEN if "data_batch_1" in files or "test_batch" in files else _HUNDRED
    missing = [name for split in ("train", "test") for name in layout[split] if name not in files]
    if missing:
        raise InvalidInput(
            f"{source} has no file {missing[0]!r}: give the folder or the tar file of the python version of CIFAR-10 or CIFAR-100."
        )
    splits = _splits({split: [(name, files[name]) for name in layout[split]] for split in ("train", "test")}, progress)
    names_file = layout["names"][0]
    if names_file not in files:
        return RawDataset(splits, _TEN_CLASSES if layout is _TEN else None)
    meta, _ = _unpickle(names_file, files[names_file])
    labels = meta.get(b"label_names") or meta.get(b"fine_label_names")
    if not isinstance(labels, list) or not all(isinstance(name, bytes) for name in labels):
        raise BadData(f"{names_file}: it has no list of label names.")
    return RawDataset(splits, tuple(name.decode("utf-8", "replace") for name in labels))


def _splits(files: dict[str, list[tuple[str, Opener]]], progress: Callable[[int], None]) -> dict[str, RawSplit]:
    """Batch files by split as arrays; a file's memory is free for the next one as soon as its images are in order."""
    rooms = {split: sum(_most_images(opener) for _, opener in parts) for split, parts in files.items()}
    images = {split: np.empty((room, SIDE, SIDE, 3), np.uint8) for split, room in rooms.items()}
    labels: dict[str, list[NDArray[np.int64]]] = {split: [] for split in files}
    waiting = [(split, name, opener) for split, parts in files.items() for name, opener in parts]
    with ThreadPoolExecutor(READERS) as pool:
        read = [pool.submit(_batch, name, opener, progress) for _, name, opener in waiting[:READERS]]
        ordered = []
        for number, (split, _, _) in enumerate(waiting):
            pixels, batch_labels = read[number].result()
            read[number] = _SPENT
            first = sum(map(len, labels[split]))
            labels[split].append(batch_labels)
            ordered.append(pool.submit(_channels_last, pixels, images[split][first : first + len(pixels)]))
            del pixels
            for _, name, opener in waiting[number + READERS : number + READERS + 1]:
                read.append(pool.submit(_batch, name, opener, progress))
        for future in ordered:
            future.result()
    return {
        split: RawSplit({"image": images[split][: sum(map(len, parts))]}, np.concatenate(parts), files[split][0][0])
        for split, parts in labels.items()
    }


def _most_images(opener: Opener) -> int:
    with opener() as stream:
        return stream.seek(0, os.SEEK_END) // PIXELS


def _folder_files(source: Path) -> dict[str, Opener]:
    if not source.is_dir():
        raise InvalidInput(f"There is no folder or file {source}: correct --from.")
    inner = [source, *(path for path in sorted(source.iterdir()) if path.is_dir() and path.name.startswith("cifar"))]
    return {path.name: _file_opener(path) for folder in reversed(inner) for path in folder.iterdir() if path.is_file()}


def _file_opener(path: Path) -> Opener:
    def open_file() -> BinaryIO:
        if path.stat().st_size > MOST_BYTES:
            raise BadData(f"{path.name}: {path.stat().st_size} bytes are more than a CIFAR batch has.")
        return path.open("rb")

    return open_file


def _tar_files(source: Path) -> dict[str, Opener]:
    # Members are read one by one and never written to the disk, so a path inside cannot lead anywhere.
    contents: dict[str, bytes] = {}
    wanted = {name for layout in (_TEN, _HUNDRED) for names in layout.values() for name in names}
    try:
        with Unpacked(source) as stream, tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", bufsize=TAR_BUFFER) as archive:
            for number, member in enumerate(archive):
                if number >= MOST_MEMBERS:
                    raise BadData(f"{source.name}: it has more than {MOST_MEMBERS} members, and CIFAR a dozen: fetch it again.")
                name = PurePosixPath(member.name).name
                if not member.isreg() or member.issparse() or name not in wanted:
                    continue
                if member.size > MOST_BYTES:
                    raise BadData(f"{source.name}: its member {name} claims {member.size} bytes, more than a CIFAR batch has.")
                file = archive.extractfile(member)
                contents[name] = file.read() if file else b""
    except RecursionError as error:
        raise BadData(f"{source.name}: its headers are nested without end: do not trust this file.") from error
    except tarfile.ReadError as error:
        raise BadData(
            f"{source.name}: it is no whole tar file ({str(error).splitlines()[0].rstrip(':')}): fetch it again."
        ) from error
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise BadData(f"{source.name}: the tar file is damaged ({error}): fetch it again.") from error
    return {name: functools.partial(io.BytesIO, data) for name, data in contents.items()}


def _batch(name: str, opener: Opener, progress: Callable[[int], None]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels [rows, 3 * 32 * 32] and labels of one batch file."""
    batch, size = _unpickle(name, opener)
    pixels, labels = batch.get(b"data"), batch.get(b"labels", batch.get(b"fine_labels"))
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != PIXELS:
        raise BadData(
            f"{name}: its data must be uint8 of shape (images, {PIXELS}), but it is {getattr(pixels, 'shape', type(pixels).__name__)}."
        )
    if not isinstance(labels, list) or len(labels) != len(pixels) or not all(type(label) is int for label in labels):
        raise BadData(f"{name}: it needs one whole number as label for each of its {len(pixels)} images.")
    if len(pixels) * PIXELS > size:
        raise BadData(f"{name}: {len(pixels)} images do not fit into its {size} bytes: do not trust this file.")
    if any(abs(label) >= MOST_CLASSES for label in labels):
        raise BadData(f"{name}: it has a label of {max(labels, key=abs)}, but labels count from 0: fetch the file again.")
    progress(size)
    return pixels, np.array(labels, np.int64)


def _channels_last(pixels: NDArray[np.uint8], images: NDArray[np.uint8]) -> None:
    """Write [rows, 3 * 32 * 32], red first, into [rows, 32, 32, 3]; channel by channel takes half of a transposition's time."""
    target = images.reshape(len(pixels), SIDE * SIDE, 3)
    for channel in range(3):
        target[:, :, channel] = pixels[:, channel * SIDE * SIDE : (channel + 1) * SIDE * SIDE]


def _unpickle(name: str, opener: Opener) -> tuple[dict[Any, Any], int]:
    """The dictionary in a pickle, and the pickle's size in bytes."""
    with opener() as stream:
        value, size = read_pickle(stream, name)
    if not isinstance(value, dict):
        raise BadData(f"{name}: it holds a {type(value).__name__}, not the dictionary of a CIFAR batch.")
    return value, size
