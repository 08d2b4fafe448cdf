"""A store in a directory of this machine, or of a file system that all machines share."""

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from service.errors import Conflict, NotFound, StoreError, StoreUnreachable
from service.file_locks import wait_for_lock
from service.storage.base import ObjectInfo, Progress, Seen, Store, Unfinished, check_key, copy_hashed
from service.storage.local_files import (
    CHUNK,
    copy_file,
    drop_empty_folders,
    explain,
    link,
    make_folder,
    sync_folder,
    version_at,
    version_of_status,
    write_all,
)

TEMPORARY = ".delayline-tmp"
"""A folder at the store's root: half-written files are nowhere else."""
CLOCK = "lock-clock"
"""A file there that is touched to see the file system's time; with the locks it is never swept away."""
LEFTOVER_SECONDS = 24 * 3600.0
"""A temporary file of this age is a crashed writer's (assumed: no write takes a day)."""


LOCK_PAUSE = 0.005
"""Seconds between looks at a lock: who holds it moves one file (assumed)."""


class LocalStore(Store):
    """Objects are files; a write is a new file that is moved into place, so a reader sees all of it or none."""

    look_seconds = 0.5
    counts_requests = False

    def __init__(self, folder: Path, patience: float = 20.0) -> None:
        self._root = folder
        self._patience = patience
        self.url = str(folder)
        self._swept = False

    def read(self, key: str) -> bytes:
        with self._errors(key):
            return self._path(key).read_bytes()

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        with self._errors(key), self._path(key).open("rb") as file:
            return file.read(), version_of_status(os.fstat(file.fileno()))

    def read_aged(self, key: str) -> Seen:
        with self._errors(key), self._path(key).open("rb") as file:
            now = self.now()
            # An open file is never written to: what is read belongs to this status, even if the key has another file by now.
            status = os.fstat(file.fileno())
            return Seen(file.read(), version_of_status(status), max(0.0, now - status.st_mtime))

    def now(self) -> float:
        # The file system's own clock: that of its server where machines share it. What was just touched shows it.
        try:
            with (self._root / TEMPORARY / CLOCK).open("ab") as file:
                os.utime(file.fileno())
                return os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            with self._errors(TEMPORARY):
                (self._root / TEMPORARY).mkdir(parents=True, exist_ok=True)
                (self._root / TEMPORARY / CLOCK).touch()
            return self.now()
        except OSError:
            # A store that this user may only read: no run in it can be driven from here.
            return time.time()

    def read_range(self, key: str, start: int, length: int) -> bytes:
        with self._errors(key), self._path(key).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def read_into(self, key: str, target: memoryview) -> str:
        with self._errors(key), self._path(key).open("rb", buffering=0) as file:
            self._check_size(key, os.fstat(file.fileno()).st_size, target)
            return copy_hashed(file, target)

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_version: str | None = None) -> str:
        path = self._path(key)
        with self._errors(key), self._temporary() as temporary:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            return self._place(temporary, path, key, if_absent, if_version)

    def version_of(self, key: str) -> str | None:
        try:
            with self._errors(key), self._path(key).open("rb") as file:
                return version_of_status(os.fstat(file.fileno()))
        except NotFound:
            return None

    def write_stream(self, key: str, pieces: Iterable[memoryview], size: int) -> str:
        path = self._path(key)
        digest = hashlib.sha256()
        with self._errors(key), self._temporary() as temporary:
            with temporary.open("wb", buffering=0) as file:
                for chunk in (piece[first : first + CHUNK] for piece in pieces for first in range(0, len(piece), CHUNK)):
                    digest.update(chunk)
                    write_all(file.fileno(), chunk)
                if file.tell() != size:
                    raise ValueError(f"{key}: {file.tell()} bytes instead of {size}")
                os.fsync(file.fileno())
            self._place(temporary, path, key, False, None)
        return digest.hexdigest()

    def upload(
        self,
        source: Path,
        key: str,
        progress: Progress | None = None,
        *,
        if_absent: bool = False,
        if_version: str | None = None,
    ) -> str:
        path = self._path(key)
        with self._errors(key), self._temporary() as temporary:
            digest = copy_file(source, temporary, progress)
            self._place(temporary, path, key, if_absent, if_version)
            return digest

    def download(self, key: str, target: Path, progress: Progress | None = None) -> str:
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        try:
            with self._errors(key):
                digest = copy_file(self._path(key), partial, progress)
                partial.replace(target)
                return digest
        finally:
            partial.unlink(missing_ok=True)

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        folder = self._root / prefix.rpartition("/")[0]
        with self._errors(prefix):
            found = sorted(self._walk(folder, prefix), key=lambda info: info.key)
        yield from found

    def list_folders(self, prefix: str) -> list[str]:
        try:
            with self._errors(prefix), os.scandir(self._root / prefix) as entries:
                names = [entry.name for entry in entries if entry.is_dir() and entry.name != TEMPORARY]
        except NotFound:
            return []
        return sorted(name for name in names if any(self._walk(self._root / prefix / name, f"{prefix}{name}/")))

    def delete(self, key: str) -> None:
        path = self._path(key)
        with contextlib.suppress(NotFound), self._errors(key):
            path.unlink()
            drop_empty_folders(path.parent, self._root)

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def unfinished(self, keys: Iterable[str] = ()) -> list[Unfinished]:
        folder, found = self._root / TEMPORARY, []
        if not folder.is_dir():
            return []
        self._swept = True  # else the probe's own write would sweep what is asked for
        # Not this machine's clock: on a shared file system the times are its server's.
        with self._errors(TEMPORARY), self._temporary() as probe:
            probe.touch()
            now = probe.stat().st_mtime
            for path in sorted(folder.iterdir()):
                with contextlib.suppress(FileNotFoundError):  # finished while we look
                    if path != probe and not path.name.startswith("lock-"):
                        status = path.stat()
                        found.append(Unfinished(path.name, str(path), now - status.st_mtime, status.st_size))
        return found

    def forget(self, upload: Unfinished) -> None:
        with self._errors(upload.key):
            Path(upload.upload).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _walk(self, folder: Path, prefix: str) -> Iterator[ObjectInfo]:
        for parent, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if name != TEMPORARY]
            for name in files:
                path = Path(parent, name)
                key = path.relative_to(self._root).as_posix()
                if not key.startswith(prefix):
                    continue
                with contextlib.suppress(FileNotFoundError):  # deleted while we look
                    status = path.stat()
                    yield ObjectInfo(key, status.st_size, status.st_mtime)

    def _place(self, temporary: Path, path: Path, key: str, if_absent: bool, if_version: str | None) -> str:
        """Move a finished file to its key, if the condition holds; return its version."""
        for _ in range(20):
            try:
                make_folder(path.parent)
                version = self._move(temporary, path, key, if_absent, if_version)
                sync_folder(path.parent)
                return version
            except FileNotFoundError:
                # Another process deleted the last object beside this one, and the folder with it.
                continue
        raise StoreError(
            f"The store {self.url} could not keep {key!r}: its folder is deleted again and again; let one process work on it."
        )

    def _move(self, temporary: Path, path: Path, key: str, if_absent: bool, if_version: str | None) -> str:
        version = version_at(temporary)
        if if_absent:
            link(temporary, path, key, self.url)
            return version
        # A compare-and-swap needs every writer of the key to hold the lock, the unconditional ones too.
        with self._lock(key):
            if if_version is not None:
                current = None
                with contextlib.suppress(FileNotFoundError):
                    current = version_at(path)
                if current != if_version:
                    raise Conflict(f"The object {key!r} in {self.url} was changed by another process.")
            temporary.replace(path)
        return version

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[Path]:
        folder = self._root / TEMPORARY
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:
            raise StoreError(f"The store {self.url} cannot be made there: choose another folder with --store.") from error
        self._sweep(folder)
        path = folder / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _sweep(self, folder: Path) -> None:
        """Delete what crashed writers left, once a process."""
        if self._swept:
            return
        self._swept = True
        # By the file system's clock, as leases: this machine's may differ from another's by days.
        now = self.now()
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime > LEFTOVER_SECONDS and not path.name.startswith("lock-"):
                    path.unlink()

    @contextlib.contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        # A few files serve as the locks of all keys, so they need not be deleted.
        path = self._root / TEMPORARY / f"lock-{hashlib.sha256(key.encode()).hexdigest()[:2]}"
        with path.open("a") as file:
            if not wait_for_lock(file, self._patience, LOCK_PAUSE):
                raise StoreUnreachable(f"The store {self.url} was locked by another process for {self._patience:g} s.")
            yield

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise NotFound(f"There is no object {key!r} in {self.url}.") from error
        except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
            raise StoreError(
                f"The store {self.url} cannot hold {key!r}: a file stands where a folder is needed; choose another folder."
            ) from error
        except PermissionError as error:
            raise StoreError(
                f"The store {self.url} refuses access ({error.strerror}): give this user the right to read and write there."
            ) from error
        except OSError as error:
            raise StoreError(explain(error, self.url)) from error


def leave_as_before(folder: Path) -> Callable[[], None]:
    """Note which folders of a store are there; what is returned removes those that came since and are empty."""
    wanted = [folder / TEMPORARY, folder, *folder.parents]
    absent = [path for path in wanted if not path.exists()]

    def restore() -> None:
        with contextlib.suppress(OSError):
            for path in absent:
                for lock in path.glob("lock-*") if path.name == TEMPORARY else ():
                    lock.unlink()
                path.rmdir()

    return restore
