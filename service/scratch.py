"""Folders for temporary files: deleted after use, and where a process was killed, by the next one that needs a folder."""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
import weakref
from pathlib import Path


class ScratchFolder(tempfile.TemporaryDirectory[str]):
    """A temporary folder that says by a lock, which the system releases with the process, that it is in use.

    A killed process deletes nothing, and a node that loses workers now and then would fill its disk in the end.
    """

    def __init__(self, purpose: str) -> None:
        home = _home()
        if home is not None:
            _delete_abandoned(home)
        lock = None
        while lock is None:
            super().__init__(prefix=f"{purpose}-" if home else f"delayline-{purpose}-", dir=home, ignore_cleanup_errors=True)
            try:
                # None: another process took it for abandoned before it was locked.
                lock = _claim(Path(self.name))
                if lock is None:
                    super().cleanup()
            except OSError:
                # Without locks: where no other process looks for abandoned ones.
                super().cleanup()
                super().__init__(prefix=f"delayline-{purpose}-", ignore_cleanup_errors=True)
                break
        self._release = weakref.finalize(self, os.close, lock) if lock is not None else lambda: None

    def cleanup(self) -> None:
        """Delete the folder and what is in it."""
        super().cleanup()
        self._release()


def full_disk(error: OSError) -> str:
    """What to do about a disk that is full, where worker and Ray keep temporary files; empty for another error."""
    folder = tempfile.gettempdir()
    if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not str(error.filename or folder).startswith(folder):
        return ""
    return (
        f"The folder for temporary files, {folder}, is full on this node: make room there, or set TMPDIR to a folder with more."
    )


def _home() -> Path | None:
    """This user's folder of scratch folders, or None where another user has its name."""
    home = Path(tempfile.gettempdir(), f"delayline-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        home.mkdir(mode=0o700)
    status = home.lstat()
    return home if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() else None


def _delete_abandoned(home: Path) -> None:
    for folder in home.iterdir():
        with contextlib.suppress(OSError):
            lock = _claim(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _claim(folder: Path) -> int | None:
    """Lock a folder; return the lock's descriptor, or None where another process holds or has deleted it; raise OSError without locks."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Deleted between opening and locking, it would be a lock on nothing.
        if folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
