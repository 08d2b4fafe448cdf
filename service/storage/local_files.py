"""Files that appear whole and stay after a power failure: what a store in a folder is made of."""

import contextlib
import errno
import hashlib
import os
import shutil
from pathlib import Path

from service.errors import Conflict, StoreError
from service.storage.base import Progress

CHUNK = 4 * 1024**2
"""Bytes that are read, hashed and written at a time (assumed)."""
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
"""What systems answer where there are no hard links."""


def version_of_status(status: os.stat_result) -> str:
    """What changes with each write of a file."""
    # A file is never changed in place: a new one has another inode or, where that is used again, another time.
    return f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"


def write_all(descriptor: int, data: memoryview) -> None:
    """Write all of it: one call may write less."""
    while len(data):
        data = data[os.write(descriptor, data) :]


def version_at(path: Path) -> str:
    """The version of the file that is there now: opening it asks a file server, whose status alone may come from a cache."""
    with path.open("rb") as file:
        return version_of_status(os.fstat(file.fileno()))


def make_folder(folder: Path) -> None:
    """Make it and those above it, so that they outlast a power failure."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Put a folder's names on the disk: without that a file that is safe may have none after a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems keep their folders in order by themselves, and say that there is nothing to be done.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def copy_file(source: Path, target: Path, progress: Progress | None) -> str:
    """Copy a file, flushed to the disk, and return its sha256."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(CHUNK):
            digest.update(chunk)
            writer.write(chunk)
            if progress is not None:
                progress(len(chunk))
        writer.flush()
        os.fsync(writer.fileno())
    shutil.copymode(source, target)
    return digest.hexdigest()


def link(temporary: Path, path: Path, key: str, url: str) -> None:
    """Give a file that is whole its name too, for one process alone; raise Conflict where something has that name."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise Conflict(f"The object {key!r} exists already in {url}.") from None
    except OSError as error:
        if error.errno in _NO_LINKS:
            raise StoreError(
                f"The store {url} is on a file system without hard links ({error.strerror}), as exFAT, SMB shares and gcsfuse "
                "are: by one a run is claimed for one process alone; choose a folder on another one, or a bucket with --store s3://."
            ) from error
        raise


def drop_empty_folders(folder: Path, root: Path) -> None:
    """Delete a folder and those above it, up to `root`, as long as they are empty."""
    with contextlib.suppress(OSError):
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def explain(error: OSError, url: str) -> str:
    """The sentence for what the system refused, with the remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The store {url} is full: make room there, or choose another one with --store."
    if error.errno == errno.EROFS:
        return f"The store {url} is on a read-only file system: choose another one with --store."
    return f"The store {url} failed ({error.strerror or error}): mend it, or choose another one with --store."
