"""One reader a node: of the workers that resume from a checkpoint, one fetches each file and the others of its node map that copy."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from service.errors import Damaged, NotFound, StoreError
from service.file_locks import wait_for_lock
from service.storage.base import Store
from service.storage.local import LocalStore

LOCK_SECONDS = 900.0
"""For a neighbour that fetches a file (assumed: longer than a store may be away); then a worker reads for itself."""
LEFTOVER_SECONDS = 24 * 3600.0

Buffer = NDArray[np.uint8]


def read_verified(store: Store, key: str, size: int, sha256: str) -> Buffer:
    """An object in memory of its size; raise Damaged where its size or checksum is another one."""
    buffer = np.empty(size, np.uint8)
    if store.read_into(key, buffer.data) != sha256:
        raise Damaged(f"The checkpoint's file {key} differs from the checksum in its manifest.")
    return buffer


class NodeShare:
    """A folder of this node in which a file lies while its workers read it, named by its checksum.

    A file is whole and verified once it has its name. Locks end with their process: a file that nobody holds was left by a crash.
    """

    def __init__(self, folder: Path, neighbours: int) -> None:
        self._folder = folder
        self._neighbours = neighbours
        self._held: list[tuple[Path, IO[bytes]]] = []

    def read(self, store: Store, key: str, size: int, sha256: str) -> Buffer:
        """As `read_verified`. What was fetched for all is mapped, not copied; without a folder to keep it in each reads for itself."""
        if self._neighbours < 2 or size == 0 or isinstance(store, LocalStore):
            # A folder's files are in the node's page cache for all.
            return read_verified(store, key, size, sha256)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._turn(sha256):
                return self._mapped(store, key, size, sha256)
        except (Damaged, NotFound):
            raise
        except (OSError, StoreError) as error:
            print(f"{key} is read by this worker for itself: {error}", flush=True)
        return read_verified(store, key, size, sha256)

    def release(self) -> None:
        """Once all workers have read: drop the files, and read nothing together any more. Who has mapped them keeps them."""
        for path, file in self._held:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            file.close()
        self._held.clear()
        self._neighbours = 1

    def _mapped(self, store: Store, key: str, size: int, sha256: str) -> Buffer:
        path = self._folder / sha256
        if not path.exists() or path.stat().st_size != size:
            self._sweep()
            if store.download(key, path) != sha256 or path.stat().st_size != size:
                path.unlink(missing_ok=True)
                raise Damaged(f"The checkpoint's file {key} differs from the checksum in its manifest.")
        file = path.open("rb")
        fcntl.flock(file, fcntl.LOCK_SH)
        self._held.append((path, file))
        return np.memmap(file, np.uint8, "r")

    def _sweep(self) -> None:
        """Delete what crashed workers left: files that nobody holds, and parts of files after a day."""
        for path in self._folder.glob("*"):
            if path.name.startswith("lock-"):
                continue
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not path.name.startswith(".") or time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                    path.unlink()

    @contextlib.contextmanager
    def _turn(self, sha256: str) -> Iterator[None]:
        """Within it this worker is the one that fetches; raise OSError where another one takes too long."""
        with (self._folder / f"lock-{sha256[:2]}").open("ab") as file:
            if not wait_for_lock(file, LOCK_SECONDS):
                raise TimeoutError(f"a neighbour has been fetching for {LOCK_SECONDS:g} s")
            yield
