"""Ships a worker's log to the store: everything that its process prints, TensorFlow's C++ lines included."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from jobs.repeating import Repeating
from service.errors import StoreError
from service.storage.base import Store
from service.storage.paths import LOG_PART

LONGEST_LOG = 16 * 1024**2
"""Bytes; of a longer log the store keeps the end (assumed: more than anybody reads)."""
LOOKS = 5
"""Looks at a store for each copy of a log that grew: ten seconds with a bucket (assumed: a person who follows it waits so long)."""
LOG = "log"
"""The name of the growing file in its scratch folder."""


class LogShipper:
    """Copies a growing file to the store while it grows, in parts of `LOG_PART` bytes: those that are full are not copied again.

    Where a part begins follows from its number alone, so that another process can continue the same file.
    """

    def __init__(self, store: Store, key: Callable[[int], str], file: Path) -> None:
        self._store = store
        self._key = key
        self._file = file
        self._shipped = 0
        self._first = 0
        """The number of the first part that the store keeps."""
        self._lock = threading.Lock()
        self._looks = Repeating("logs", LOOKS * store.look_seconds, self.ship)

    def ship(self) -> None:
        """Copy what there is now; a store that refuses loses the log, not the run."""
        # A full disk costs the log, not the run's end.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        with self._lock, contextlib.suppress(StoreError):
            size = self._file.stat().st_size
            if size == 0 or size == self._shipped:
                return
            first = max(0, -(-(size - LONGEST_LOG) // LOG_PART))
            for part in range(max(first, self._shipped // LOG_PART), -(-size // LOG_PART)):
                with self._file.open("rb") as file:
                    file.seek(part * LOG_PART)
                    self._store.write(self._key(part), file.read(min(LOG_PART, size - part * LOG_PART)))
                self._shipped = min(size, (part + 1) * LOG_PART)
            while self._first < first:
                self._store.delete(self._key(self._first))
                self._first += 1

    def close(self) -> None:
        """Copy the rest and stop."""
        self._looks.stop()
        self.ship()


def capture_output(file: Path) -> None:
    """Send this process's standard output and error, at the level of file descriptors, to `file`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    # Ray replaces the Python streams with ones of its own; these go to the file as well, line by line.
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
