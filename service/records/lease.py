"""Who drives a run: a lease that one process holds at a time, and renews while it lives.

No two machines' clocks are compared. The store's clock alone says how long a lease was not renewed; the holder's
own, which counts the time in which it was stopped, says for how long it may write without a renewal.
"""

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from service.errors import Conflict, InvalidInput, LeaseLost, NotFound
from service.records.run_record import RunRecord
from service.records.schemas import LeaseDocument
from service.records.stored_document import read_document
from service.storage.base import Seen
from service.storage.json_documents import Document, from_bytes, to_bytes

LEASE_SECONDS = 30.0
"""A driver that was silent for so long counts as lost (assumed: three heartbeats)."""
HEARTBEAT_SECONDS = 10.0
STEP_SECONDS = 10.0
"""By so much a step of the machine's clock may move the start of a process as psutil tells it (assumed)."""


def seconds_awake_or_not() -> float:
    """A clock that never goes back and that runs while the machine is suspended, where the system has one that does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(frozen=True)
class SeenLease:
    """A lease as it was read; `age`: seconds since it was written, by the store's clock."""

    document: LeaseDocument
    age: float


def lease_in(seen: Seen | None, key: str) -> SeenLease | None:
    """The lease in what was read from the store; None where there is none."""
    return SeenLease(read_document(LeaseDocument, seen.data, key), seen.age) if seen is not None else None


def lease_of(record: RunRecord) -> SeenLease | None:
    """Who drives a run, as `lease_in`."""
    with contextlib.suppress(NotFound):
        return lease_in(record.store.read_aged(record.paths.lease), record.paths.lease)
    return None


def lease_is_live(lease: SeenLease | None) -> bool:
    """Whether a lease's holder is alive: its heartbeat is fresh or, on this very machine, its process exists."""
    if lease is None or lease.document.released:
        return False
    if lease.document.host == socket.gethostname() and lease.document.boot == boot_id():
        return _process_lives(lease.document)
    return lease.age < LEASE_SECONDS


def boot_id() -> str:
    """Tells two machines, or two boots of one, of the same host name apart; containers add their pid namespace."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _process_lives(lease: LeaseDocument) -> bool:
    now = process_start(lease.pid)
    if lease.pid_ticks is not None:
        return bool(now.get("pid_ticks") == lease.pid_ticks)
    # Off Linux, and in the first format everywhere: by the wall clock, which may have been set since.
    began = _created(lease.pid) if now else None
    return began is not None and lease.pid_started is not None and abs(began - lease.pid_started) < STEP_SECONDS


def process_start(pid: int) -> Document:
    """What tells a process from later ones of its number: `pid_ticks` since the boot, or `pid_started`; empty once it has ended."""
    try:
        # Behind the name, which may hold anything: the state, and as the 22nd field in all the start.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        # A killed process whose parent has not asked for its end yet still has an entry.
        return {} if fields[0] in "ZX" else {"pid_ticks": int(fields[19])}
    except (OSError, IndexError, ValueError):
        started = _created(pid)
        return {} if started is None or Path("/proc/self/stat").exists() else {"pid_started": started}


def _created(pid: int) -> float | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


@dataclass
class Lease:
    """The right to drive a run. `renew` raises LeaseLost once somebody else took it."""

    record: RunRecord
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    clock: Callable[[], float] = seconds_awake_or_not
    completed: Callable[[LeaseDocument], LeaseDocument] = lambda document: document
    """Adds to the document of each renewal what the holder wants its successor to know."""
    replaced: LeaseDocument | None = None
    """The lease in whose place this one was acquired."""
    _version: str | None = None
    _renewed: float = 0.0
    _beats: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def acquire(self) -> bool:
        """Take the lease if nobody alive holds it, or the holder has this token; of two that try at once one gets it."""
        store, key = self.record.store, self.record.paths.lease
        seen = None
        with contextlib.suppress(NotFound):
            seen = store.read_aged(key)
        held = lease_in(seen, key)
        if held is not None and lease_is_live(held) and held.document.token != self.token:
            return False
        with self._lock:
            began = self.clock()
            try:
                if seen is None:
                    self._version = store.write(key, self._document(), if_absent=True)
                else:
                    self._version = store.write(key, self._document(), if_version=seen.version)
            except Conflict:
                return False
            self._renewed, self.replaced = began, held.document if held else None
        return True

    def renew(self) -> None:
        """Write a fresh heartbeat; raise LeaseLost when somebody else holds the lease."""
        with self._lock:
            began = self.clock()
            self._replace(self._document())
            self._renewed = began

    def assure(self) -> None:
        """Return once the holder may write: what it did not renew for the lease's length it renews first, or raises LeaseLost.

        Nobody took the lease before this returned, unless whoever writes then does so over a version that they saw before.
        """
        if self.clock() - self._renewed >= LEASE_SECONDS:
            self.renew()

    def release(self) -> None:
        """Give the lease back; a lease that somebody else took stays theirs."""
        try:
            with self._lock:
                self._replace(self._document(released=True))
        except LeaseLost:
            return

    def _replace(self, document: bytes) -> None:
        if self._version is None:
            raise InvalidInput("This lease was never acquired; call acquire() first.")
        key = self.record.paths.lease
        try:
            self._version = self.record.store.write(key, document, if_version=self._version)
        except (Conflict, NotFound) as error:
            # A retried write whose first answer was lost conflicts with itself: the token tells.
            try:
                data, version = self.record.store.read_versioned(key)
            except NotFound:
                raise LeaseLost(f"The run {self.record.run_id} was deleted from the store; its driver stops.") from error
            if from_bytes(data, key).get("token") != self.token:
                raise LeaseLost(f"Another driver took over the run {self.record.run_id}; this one stops.") from error
            self._version = version
            if data != document:
                # An older renewal, from which on the store counts the lease's age.
                self._version = self.record.store.write(key, document, if_version=version)

    def _document(self, released: bool = False) -> bytes:
        pid = os.getpid()
        self._beats += 1
        written = LeaseDocument(
            token=self.token,
            host=socket.gethostname(),
            boot=boot_id(),
            pid=pid,
            **process_start(pid),
            heartbeat=time.time(),
            beat=self._beats,
            released=released,
        )
        return to_bytes(self.completed(written).document())
