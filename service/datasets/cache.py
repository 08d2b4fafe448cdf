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
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from service.errors import InfrastructureFailure

LOCK_SECONDS = 1800.0
"""How long to wait while another process fills the same entry (assumed: a large dataset over a slow link)."""
ABANDONED_SECONDS = 24 * 3600.0
Columns = dict[str, NDArray[Any]]
Fill = Callable[[Path], None]


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
            fill(partial)
            sums = {path.name: {"bytes": path.stat().st_size, "crc32": _crc32(path)} for path in partial.glob("*.npy")}
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
            return all(
                (entry / name).stat().st_size == s["bytes"] and _crc32(entry / name) == s["crc32"] for name, s in sums.items()
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    @contextlib.contextmanager
    def _lock(self, digest: str) -> Iterator[None]:
        with (self.folder / f"{digest}.fill").open("ab") as file:
            deadline = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise InfrastructureFailure(
                            f"Another process has been filling the cache {self.folder} for {LOCK_SECONDS:g} s."
                        ) from None
                    time.sleep(0.05)
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


def _crc32(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(8 * 1024**2):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
