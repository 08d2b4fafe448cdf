"""What files from outside may grow to: their unpacked size is bounded by their own, for a few kilobytes can hold terabytes of zeros."""

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path
from typing import BinaryIO, cast

from service.errors import BadData

FLOOR = 256 * 1024**2
RATIO = 200
"""A file may hold FLOOR bytes and RATIO times its size (assumed: MNIST shrinks to a fifth, pictures of one colour to a hundredth)."""
_GZIP, _BZ2, _XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00"


def most_unpacked(packed: int) -> int:
    """The bytes that may come out of files of `packed` bytes in all."""
    return FLOOR + RATIO * packed


def check_unpacked(claimed: int, packed: int, name: str) -> None:
    """Raise BadData where `claimed` bytes, or more, would be unpacked from `packed` ones, and that is far too many."""
    if claimed > most_unpacked(packed):
        raise BadData(
            f"{name}: it unpacks to {claimed} bytes or more out of {packed}, and may to {most_unpacked(packed)} ({FLOOR} and {RATIO} "
            "times its size): do not trust this file, or unpack it yourself."
        )


def check_archive(path: Path, name: str, most_members: int = 1000) -> int:
    """The bytes that a zip file claims unpacked; raise BadData where they are far more than its own, or not known before.

    Raise BadZipFile and others of `zipfile` where it is none.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    claimed = sum(info.file_size for info in members)
    check_unpacked(claimed, path.stat().st_size, name)
    if len(members) > most_members:
        raise BadData(f"{name}: it has {len(members)} members, more than {most_members}.")
    for info in members:
        # Python unpacks the others by whole blocks, however large they become.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BadData(f"{name}: {info.filename[:60]!r} is packed otherwise than NumPy and Keras pack: write the file again.")
    return claimed


class Unpacked(io.RawIOBase):
    """A file's bytes, unpacked where it is compressed by gzip, bzip2 or xz, read once from its beginning to its end.

    Reading raises BadData beyond `most_unpacked`, and what the decompressor raises where the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._name = path.name
        self._size = path.stat().st_size
        self._read = 0
        self._file = path.open("rb")
        self._stream = self._opened()

    def _opened(self) -> BinaryIO:
        head = self._file.read(6)
        self._file.seek(0)
        if head.startswith(_GZIP):
            return cast(BinaryIO, gzip.GzipFile(fileobj=self._file))
        if head.startswith(_BZ2):
            return cast(BinaryIO, bz2.BZ2File(self._file))
        if head.startswith(_XZ):
            return cast(BinaryIO, lzma.LZMAFile(self._file))
        return self._file

    def readable(self) -> bool:
        return True

    def readinto(self, target: object) -> int:
        view = memoryview(target).cast("B")  # type: ignore[arg-type]
        data = self._stream.read(len(view))
        self._read += len(data)
        check_unpacked(self._read, self._size, self._name)
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
