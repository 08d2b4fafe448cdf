"""The user's own code in the store, from where a run's driver and its workers on a cluster take it.

Not Ray's `working_dir`: Ray puts that before the standard library, and a `random.py` in it would end every process.
"""

import hashlib
import io
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath

from service.errors import Damaged, NotFound
from service.names import is_run_id
from service.records.stored_document import StoredDocument, read_document
from service.scratch import ScratchFolder
from service.storage.base import ObjectInfo, Store
from service.storage.json_documents import to_bytes
from service.storage.paths import PACKAGES, RUNS, RunPaths

REFERENCE = "package:"
"""Stands before a package's sha256 where otherwise a folder is named."""
STILL_SECONDS = 24 * 3600.0
"""A package that nobody refers to is deleted after so long: its run may be about to be submitted (assumed)."""
_lock = threading.Lock()
_unpacked: dict[str, ScratchFolder] = {}
"""For as long as this process lives: a module may be imported late, and warm processes have one run after the other."""


class PackageDocument(StoredDocument):
    """`package.json`: which package a run's code is."""

    sha256: str


def key_of(sha256: str) -> str:
    """Where a package lies."""
    return f"{PACKAGES}{sha256}.zip"


def keep(store: Store, run_id: str, archive: bytes) -> str:
    """Put a run's code into the store; return what stands for its folder from then on.

    It is written also where it is there, so that no prune takes it for an old one before the run refers to it.
    """
    folder = put(store, archive)
    refer(store, run_id, folder)
    return folder


def put(store: Store, archive: bytes) -> str:
    """Put code into the store to which no run refers yet; return what stands for its folder."""
    sha256 = hashlib.sha256(archive).hexdigest()
    store.write(key_of(sha256), archive)
    return REFERENCE + sha256


def refer(store: Store, run_id: str, folder: str) -> None:
    """Write which package a run's code is, so that no prune deletes it."""
    store.write(RunPaths(run_id).package, to_bytes(PackageDocument(sha256=folder.removeprefix(REFERENCE)).document()))


def is_package(folder: str) -> bool:
    """Whether this names a package in the store and not a folder."""
    return folder.startswith(REFERENCE)


def check(store: Store, folder: str) -> None:
    """Raise NotFound or Damaged unless the package that this may name is whole; nothing is unpacked."""
    if is_package(folder):
        _fetch(store, folder)


def enter(store: Store, folder: str) -> str:
    """The folder that holds the user's modules; a package is fetched, verified and unpacked once a process, which stands in it then.

    Raise NotFound or Damaged.
    """
    if not is_package(folder):
        return folder
    with _lock:
        if folder not in _unpacked:
            _unpacked[folder] = _unpack(_fetch(store, folder), folder)
        here = _unpacked[folder].name
    os.chdir(here)
    return here


def _unpack(data: bytes, folder: str) -> ScratchFolder:
    scratch = ScratchFolder("package")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise Damaged(f"The package {folder} holds {name[:100]!r}, which leaves its folder: submit the run again.")
        archive.extractall(scratch.name)
    return scratch


def _fetch(store: Store, folder: str) -> bytes:
    sha256 = folder.removeprefix(REFERENCE)
    try:
        data = store.read(key_of(sha256))
    except NotFound:
        raise NotFound(
            f"The run's code {key_of(sha256)} is not in {store.url}: submit the run again from its folder, with --resume."
        ) from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Damaged(f"The run's code {key_of(sha256)} in {store.url} is damaged: submit the run again from its folder.")
    return data


def unused(store: Store, now: float) -> list[ObjectInfo]:
    """The packages that no run refers to and that nobody wrote for a day, by the store's clock."""
    there = [info for info in store.objects(PACKAGES) if now - info.modified >= STILL_SECONDS]
    used = set(_used(store)) if there else set()
    return [info for info in there if info.key not in used]


def _used(store: Store) -> Iterator[str]:
    keys = [RunPaths(name).package for name in store.list_folders(RUNS) if is_run_id(name)]
    for key, data in store.read_many(keys).items():
        yield key_of(read_document(PackageDocument, data, key).sha256)
