"""Compressed files from outside, whose unpacked size is bounded by their own: a few kilobytes can hold terabytes of zeros."""

import bz2
import gzip
import io
import lzma
from pathlib import Path
from typing import BinaryIO, cast

from service.errors import BadData

FLOOR = 64 * 1024**2
RATIO = 20
"""A file of examples may unpack to FLOOR bytes and RATIO times its size (assumed: CIFAR shrinks by a tenth, MNIST to a fifth)."""
_GZIP, _BZ2, _XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00"


def most_unpacked(packed: int) -> int:
    """The bytes that a compressed file of `packed` bytes may have."""
    return FLOOR + RATIO * packed


class Unpacked(io.RawIOBase):
    """A file's bytes, unpacked where it is compressed by gzip, bzip2 or xz, read once from its beginning to its end.

    Reading raises BadData beyond `most_unpacked`, and what the decompressor raises where the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._name = path.name
        self._most = most_unpacked(path.stat().st_size)
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
        if self._read > self._most:
            raise BadData(
                f"{self._name}: it unpacks to more than {self._most} bytes, {FLOOR} and {RATIO} times its own size: "
                "no file of examples does; do not trust it, or unpack it yourself."
            )
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
