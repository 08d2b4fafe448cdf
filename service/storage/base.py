"""The seam between Delayline and whatever keeps its objects: a directory or an S3 bucket.

An adapter implements `Store`; `tests/service/storage/test_contract.py` holds for each of them.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from service.errors import Damaged, InvalidInput, NotFound

CHUNK = 256 * 1024
"""Bytes that are read and hashed at a time: they stay in the processor's cache (assumed: half of 512 KiB)."""
Progress = Callable[[int], None]
"""Called with the number of bytes that were moved since the last call, from any thread."""


class Readable(Protocol):
    """What gives at most so many bytes at a time."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class ObjectInfo:
    """One object of a listing: its key, size in bytes and time of last change (seconds since 1970)."""

    key: str
    size: int
    modified: float


class Seen(NamedTuple):
    """One object as it was read: its bytes and version, and for how many seconds at least it had not changed by the store's clock."""

    data: bytes
    version: str
    age: float


@dataclass(frozen=True)
class Unfinished:
    """What a writer that was killed left of one object: its key, who else knows it (`upload`), its age by the store's clock, its bytes."""

    key: str
    upload: str
    age: float
    bytes: int


class Store(ABC):
    """Objects by key. Keys use `/`, have no leading slash and no `.` or `..` parts.

    Every method raises `StoreUnreachable` when no answer came within the adapter's time limit, after
    retries with backoff, and `StoreError` when the store refuses (permission, space, missing bucket).
    An object appears whole or not at all. A `version` is opaque and changes with each write.
    """

    url: str
    """Where the store is, as a user would type it; holds no secret."""
    look_seconds: float = 2.0
    """Between looks at a document that others write, and between writes of one's own that changes all the time (assumed)."""
    counts_requests: bool = True
    """Whether each read and write is a request to a server, of which a run should make few."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """Return the whole object; raise `NotFound`."""

    @abstractmethod
    def read_versioned(self, key: str) -> tuple[bytes, str]:
        """Return the whole object and its version; raise `NotFound`."""

    @abstractmethod
    def read_aged(self, key: str) -> Seen:
        """Return the whole object, its version and its age; raise `NotFound`."""

    @abstractmethod
    def now(self) -> float:
        """The time by the clock that the objects' times of last change are of, in seconds since 1970."""

    @abstractmethod
    def read_range(self, key: str, start: int, length: int) -> bytes:
        """Return at most `length` bytes from `start`; fewer at the object's end; raise `NotFound`."""

    @abstractmethod
    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_version: str | None = None) -> str:
        """Write the object and return its version.

        With `if_absent` or `if_version` it is written only if it does not exist, or still has that version;
        otherwise `Conflict` is raised, also where the object does not exist any more.
        """

    def write_large(self, key: str, data: memoryview) -> None:
        """Write an object whose sha256 stands in another document, with which readers compare it."""
        self.write(key, bytes(data))

    def read_into(self, key: str, target: memoryview) -> str:
        """Read an object into memory of its size; return its sha256; raise `NotFound`, or `Damaged` where it has another size."""
        data = self.read(key)
        self._check_size(key, len(data), target)
        target[:] = data
        return hashlib.sha256(data).hexdigest()

    def _check_size(self, key: str, size: int, target: memoryview) -> None:
        if size != len(target):
            raise Damaged(f"The object {key!r} in {self.url} has {size} bytes instead of {len(target)}.")

    @abstractmethod
    def version_of(self, key: str) -> str | None:
        """The object's version, or None where there is none; the object itself is not read."""

    @abstractmethod
    def write_stream(self, key: str, pieces: Iterable[memoryview], size: int) -> str:
        """Write an object of `size` bytes, `pieces` one after the other; return its sha256 as hex.

        Beside the pieces a few parts of 16 MiB are in memory, whatever the size. The pieces are asked for once more where
        a server forgot what it had.
        """

    @abstractmethod
    def upload(
        self,
        source: Path,
        key: str,
        progress: Progress | None = None,
        *,
        if_absent: bool = False,
        if_version: str | None = None,
    ) -> str:
        """Write a file of any size (in parallel parts where that pays); return its sha256 as hex.

        The conditions are those of `write`, and hold for objects in parts too: the server looks at them as it puts the parts
        together (shown on SeaweedFS and MinIO). A server that ignores them there writes as if they had not been given.
        """

    @abstractmethod
    def download(self, key: str, target: Path, progress: Progress | None = None) -> str:
        """Fetch an object of any size (in parallel ranges) into `target`, whole or not at all; return its sha256."""

    @abstractmethod
    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with `prefix`, in order of keys."""

    @abstractmethod
    def list_folders(self, prefix: str) -> list[str]:
        """The names between `prefix` (which ends in `/`) and the next `/`, sorted, each once."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete one object; a missing one is no error."""

    def read_many(self, keys: list[str]) -> dict[str, bytes]:
        """The whole objects of those keys that exist."""
        found = {}
        for key in keys:
            try:
                found[key] = self.read(key)
            except NotFound:
                continue
        return found

    def read_many_aged(self, keys: list[str]) -> dict[str, Seen]:
        """Those objects of these keys that exist, each with its age."""
        found = {}
        for key in keys:
            try:
                found[key] = self.read_aged(key)
            except NotFound:
                continue
        return found

    def delete_prefix(self, prefix: str) -> int:
        """Delete every object below `prefix`; return how many there were."""
        count = 0
        for info in list(self.objects(prefix)):
            self.delete(info.key)
            count += 1
        return count

    @abstractmethod
    def unfinished(self, keys: Iterable[str] = ()) -> list[Unfinished]:
        """What killed writers left in the store, and what living ones have not finished.

        `keys`: where to look on a server that lists by whole keys alone, as MinIO does.
        """

    @abstractmethod
    def forget(self, upload: Unfinished) -> None:
        """Delete what `unfinished` found; what does not exist any more is no error."""

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        return any(info.key == key for info in self.objects(key))

    def server_time(self) -> float | None:
        """The time by the server's own clock, in seconds since 1970, to the second; None where there is no server.

        It needs no credentials: an answer that refuses says the time as well.
        """
        return None

    def check(self) -> None:
        """Raise StoreError, with the remedy, unless the store can be reached, listed and written to."""
        probe = "delayline-probe"
        self.write(probe, b"")
        self.delete(probe)


def copy_hashed(source: Readable, target: memoryview) -> str:
    """Read a stream to its end into memory of that size, each piece hashed while the processor has it; return the sha256."""
    digest, first = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        target[first : first + len(chunk)] = chunk
        first += len(chunk)
    return digest.hexdigest()


def check_key(key: str) -> str:
    """Return a key unchanged; raise InvalidInput for one that could lead outside the store or mean two objects."""
    parts = key.split("/")
    if not key or len(key.encode()) > 900 or "\\" in key or "\0" in key or any(part in ("", ".", "..") for part in parts):
        raise InvalidInput(f"The key {key[:80]!r} is not valid: use names joined by single slashes, without '.' and '..'.")
    return key
