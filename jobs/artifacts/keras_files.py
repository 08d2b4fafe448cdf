"""Checks how large a `.keras` file from elsewhere would unpack, before Keras opens it."""

import math
import zipfile
from pathlib import Path
from typing import Any

import h5py

from service.datasets.unpacked import check_archive, check_unpacked


def check_keras_file(path: Path, name: str) -> None:
    """Raise BadData where the archive, or an array in it, unpacks to far more than its size; `name` is the file's name in the message.

    Raise BadZipFile, OSError and others of `zipfile` and `h5py` where it is none.
    """
    check_archive(path, name)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            # Keras itself writes arrays as they are.
            if info.filename.endswith(".h5"):
                with archive.open(info) as stream, h5py.File(stream, "r") as weights:
                    check_unpacked(_bytes_of_arrays(weights), info.file_size, f"{name}: {info.filename}")
            elif info.filename.endswith(".npz"):
                with archive.open(info) as stream, zipfile.ZipFile(stream) as inner:
                    check_unpacked(sum(each.file_size for each in inner.infolist()), info.file_size, f"{name}: {info.filename}")


def _bytes_of_arrays(group: Any) -> int:
    """Return the bytes that all arrays of an HDF5 file take in memory."""
    sizes: list[int] = []

    def note(_: str, found: Any) -> None:
        if isinstance(found, h5py.Dataset):
            sizes.append(math.prod(found.shape or ()) * found.dtype.itemsize)

    group.visititems(note)
    return sum(sizes)
