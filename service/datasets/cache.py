"""The node's cache of decoded splits: filled once, mapped into the memory of every worker of the node."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
import weakref
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from service.errors import InfrastructureFailure
from service.file_locks import wait_for_lock

LOCK_SECONDS = 1800.0
"""How long to wait while another process fills the same entry (assumed: a large dataset over a slow link)."""
ABANDONED_SECONDS = 24 * 3600.0
CHECKERS = 2
"""Threads that compare an entry's checksums (assumed: what it is read from is memory, and two cores are always there)."""
BLOCK = 1024**2
"""Bytes that are read at a time to make or compare a checksum: they stay in the processor's cache (assumed)."""

Columns = dict[str, NDArray[Any]]
Piece = tuple[int, int, int]
"""A stretch of a file: where it starts, its length in bytes, and its CRC-32."""
Fill = Callable[[Path], dict[str, list[Piece]] | None]
"""Writes an entry's files; what checksums it returns, by file, need no reading back."""


@dataclass
class Cache:
    """Folders of `.npy` files by digest. What was used longest ago goes first when `limit_bytes` is passed.

    An entry that some process has mapped is never dropped: it holds a shared lock as long as an array of it lives.
    """

    folder: Path
    limit_bytes: int

    def columns(self, digest: str, fill: Fill) -> Columns:
        """The arrays of an entry, read-only and mapped; `fill(folder)` writes them as `NAME.npy` where they are not there."""
        entry = self.folder / digest
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Held before it is looked at: no other process may drop it in between.
            with self._hold(digest):
                with self._lock(digest):
                    if not self._intact(entry):
                        shutil.rmtree(entry, ignore_errors=True)
                        self._fill(entry, fill)
                os.utime(entry / "entry.json")
                self._evict()
                paths = sorted(entry.glob("*.npy"))
                arrays = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in paths}
                for array in arrays.values():
                    # The map and not the array: a view may outlive the array that it was made from.
                    weakref.finalize(array._mmap, self._hold(digest).close)
            return arrays
        except OSError as error:
            raise InfrastructureFailure(
                f"The cache {self.folder} cannot hold the dataset ({error.strerror or error}): make room, or set DELAYLINE_CACHE to another folder."
            ) from error

    def _fill(self, entry: Path, fill: Fill) -> None:
        self._sweep(entry.name)
        partial = self.folder / f".partial-{entry.name}-{os.getpid()}-{secrets.token_hex(4)}"
        partial.mkdir()
        try:
            known = fill(partial) or {}
            sums = {path.name: known.get(path.name) or _pieces(path) for path in partial.glob("*.npy")}
            (partial / "entry.json").write_text(json.dumps(sums))
            partial.rename(entry)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _sweep(self, digest: str) -> None:
        """Delete what processes left that died while they filled: this entry's, whose lock we hold, and old ones."""
        for path in self.folder.glob(".partial-*"):
            with contextlib.suppress(OSError):
                if path.name.startswith(f".partial-{digest}-") or time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                    shutil.rmtree(path)

    def _intact(self, entry: Path) -> bool:
        try:
            sums = json.loads((entry / "entry.json").read_text())
            with ThreadPoolExecutor(CHECKERS, thread_name_prefix="cache") as pool:
                return all(_matches(entry / name, pieces, pool) for name, pieces in sums.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    @contextlib.contextmanager
    def _lock(self, digest: str) -> Iterator[None]:
        with (self.folder / f"{digest}.fill").open("ab") as file:
            if not wait_for_lock(file, LOCK_SECONDS):
                raise InfrastructureFailure(f"Another process has been filling the cache {self.folder} for {LOCK_SECONDS:g} s.")
            yield

    def _hold(self, digest: str) -> IO[bytes]:
        """An open file whose shared lock keeps the entry from being dropped."""
        file = (self.folder / f"{digest}.use").open("ab")
        fcntl.flock(file, fcntl.LOCK_SH)
        return file

    def _evict(self) -> None:
        """Drop entries that nobody uses, the one that was used longest ago first, until the rest fits."""
        sizes, used = {}, {}
        for entry in [path.parent for path in self.folder.glob("[!.]*/entry.json")]:
            # Another process may drop an entry meanwhile.
            with contextlib.suppress(FileNotFoundError):
                used[entry] = (entry / "entry.json").stat().st_mtime
                sizes[entry] = sum(file.stat().st_size for file in entry.iterdir())
        total = sum(sizes.values())
        for entry in sorted(sizes, key=used.__getitem__):
            if total <= self.limit_bytes:
                return
            with (self.folder / f"{entry.name}.use").open("ab") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                shutil.rmtree(entry, ignore_errors=True)
                total -= sizes[entry]


def _pieces(path: Path) -> list[Piece]:
    with path.open("rb") as file:
        blocks = [zlib.crc32(block) for block in iter(lambda: file.read(BLOCK), b"")]
        size = file.tell()
    return [(number * BLOCK, min(BLOCK, size - number * BLOCK), checksum) for number, checksum in enumerate(blocks)]


def _matches(path: Path, pieces: list[Piece], pool: ThreadPoolExecutor) -> bool:
    """Whether the pieces make up the file, each with its checksum."""
    ends = [0, *(start + length for start, length, _ in sorted(pieces))]
    if path.stat().st_size != ends[-1] or any(start != end for (start, _, _), end in zip(sorted(pieces), ends, strict=False)):
        return False
    with path.open("rb", buffering=0) as file:

        def compare(some: list[Piece]) -> bool:
            buffer = memoryview(bytearray(max((length for _, length, _ in some), default=0)))
            return all(
                os.preadv(file.fileno(), [buffer[:length]], start) == length and zlib.crc32(buffer[:length]) == checksum
                for start, length, checksum in some
            )

        return all(pool.map(compare, (pieces[first::CHECKERS] for first in range(CHECKERS))))
