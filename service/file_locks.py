"""Locks of files, which the system releases with the process that holds them."""

import fcntl
import time
from typing import IO, Any


def wait_for_lock(file: IO[Any], seconds: float, pause: float = 0.05) -> bool:
    """Lock an open file for this process alone; return False where another one has held it for so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
        else:
            return True
