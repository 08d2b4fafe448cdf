"""Whether the store can be reached and does all that a run asks of it, shown on objects that are deleted again."""

import contextlib
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from service.doctor.findings import Check, Finding, failed, ok, skipped
from service.errors import Conflict, DelaylineError, NotFound, StoreError
from service.runs.prune import old_uploads
from service.settings import Settings
from service.storage import open_store
from service.storage.base import Store
from service.storage.local import LocalStore, leave_as_before

PATIENCE = 2.0
"""Seconds for which one request is tried again."""
SKEW_SECONDS = 300.0
"""A third of the difference at which S3 refuses requests (derived: from 15 min)."""
HALF_SECOND = 0.5
"""Of writing, and of reading."""
FIRST_BYTES, MOST_BYTES = 64 * 1024, 8 * 1024**2
NAMES = ("store", "endpoint", "clock", "list", "put", "get", "conditional writes", "throughput", "old uploads", "delete")


def store_checks(settings: Settings) -> list[Check]:
    """The checks of the store that the settings name, in the order in which one needs the other."""
    patient = _Patient(settings)
    return [(name, patient.check(name)) for name in NAMES]


@dataclass
class _Patient:
    """A store under examination. `_root` holds all that is written; `_said` what failed so far."""

    settings: Settings
    _store: Store | None = None
    _root: str = field(default_factory=lambda: f"delayline-doctor/{secrets.token_hex(8)}")
    _said: dict[str, str] = field(default_factory=dict)
    _undo: Callable[[], None] = lambda: None
    _server_time: float | None = None
    _asked_at: float = 0.0

    def check(self, name: str) -> Callable[[], Finding]:
        """The check of that name, which remembers what failed."""
        method: Callable[[Store], Finding] = getattr(self, f"_{name.replace(' ', '_')}")

        def run() -> Finding:
            if name != "store" and self._store is None:
                return skipped("There is no store to look at.")
            try:
                found = self._open() if name == "store" else method(self._checked)
            except DelaylineError as error:
                found = failed(str(error))
            if found.status == "failed":
                found = self._once(name, found.text)
            return found

        return run

    def _once(self, name: str, text: str) -> Finding:
        """The same reason is given once."""
        earlier = next((other for other, said in self._said.items() if said == text), None)
        self._said[name] = text
        return failed(f"As for {earlier}." if earlier else text)

    @property
    def _checked(self) -> Store:
        assert self._store is not None
        return self._store

    @property
    def _key(self) -> str:
        return f"{self._root}/probe"

    def _open(self) -> Finding:
        store = open_store(self.settings, PATIENCE)
        self._store = store
        if isinstance(store, LocalStore):
            folder = Path(store.url)
            self._undo = leave_as_before(folder)
            there = next(path for path in (folder, *folder.parents) if path.exists())
            free = shutil.disk_usage(there).free / 1024**3
            return ok(
                f"{store.url}, {'a folder' if there == folder else 'a folder that is made when needed'}, {free:,.1f} GiB free"
            )
        return ok(store.url)

    def _endpoint(self, store: Store) -> Finding:
        if isinstance(store, LocalStore):
            return ok("none: the store is a folder of this machine")
        began = time.monotonic()
        self._server_time = store.server_time()
        took = time.monotonic() - began
        self._asked_at = time.time() - took / 2
        return ok(f"answers in {1000 * took:.0f} ms")

    def _clock(self, store: Store) -> Finding:
        if isinstance(store, LocalStore):
            return ok("this machine's own")
        if "endpoint" in self._said:
            return skipped("The endpoint does not answer.")
        if self._server_time is None:
            return skipped("The server does not say its time.")
        # The header has whole seconds: what it cuts off is half a second on average.
        skew = self._server_time + 0.5 - self._asked_at
        if abs(skew) > SKEW_SECONDS:
            return failed(
                f"This machine's clock is {abs(skew):,.0f} s {'behind' if skew > 0 else 'ahead of'} the server's: set it right, by NTP; "
                "from 15 minutes on S3 refuses requests, and each event has the time of its writer's clock."
            )
        return ok(f"within {max(1.0, abs(skew)):.0f} s of the server's")

    def _list(self, store: Store) -> Finding:
        if "endpoint" in self._said:
            return skipped("The endpoint does not answer.")
        if list(store.objects(self._key)):
            return failed(f"The server lists {self._key!r}, which does not exist: another program writes to this store.")
        return ok("the bucket exists and may be listed" if not isinstance(store, LocalStore) else "may be listed")

    def _put(self, store: Store) -> Finding:
        if self._unreachable():
            return skipped(self._why())
        store.write(self._key, b"first")
        return ok("may be written to")

    def _get(self, store: Store) -> Finding:
        if self._unreachable():
            return skipped(self._why())
        try:
            data = store.read(self._key)
        except NotFound:
            if "put" in self._said:
                return ok("may be read")
            return failed("What was put was not found: the server does not give back what was written just before.")
        return ok("gives back what was put") if data == b"first" else failed("The server gives back other bytes than were put.")

    def _conditional_writes(self, store: Store) -> Finding:
        if self._unreachable() or "put" in self._said:
            return skipped(self._why())
        key = f"{self._root}/condition"
        old = store.write(key, b"1", if_absent=True)
        if not _refused(lambda: store.write(key, b"2", if_absent=True)):
            return _ignores("If-None-Match", "two submissions could claim one run")
        new = store.write(key, b"3", if_version=old)
        if not _refused(lambda: store.write(key, b"4", if_version=old)):
            return _ignores("If-Match", "two drivers could drive one run")
        if store.read_versioned(key) != (b"3", new):
            return failed("A refused write changed the object: use a server with conditional writes.")
        return ok("a second claim and a stale change are refused")

    def _throughput(self, store: Store) -> Finding:
        if self._unreachable() or "put" in self._said:
            return skipped(self._why())
        count, keys = FIRST_BYTES, list[str]()

        def put() -> int:
            nonlocal count
            keys.append(f"{self._root}/speed-{len(keys)}")
            store.write(keys[-1], secrets.token_bytes(min(count, 64 * 1024)) * (count // min(count, 64 * 1024)))
            done, count = count, min(2 * count, MOST_BYTES)
            return done

        def get() -> int:
            return len(store.read(keys[-1]))

        return ok(f"{_rate(put):,.0f} MB/s put, {_rate(get):,.0f} MB/s get, one stream")

    def _old_uploads(self, store: Store) -> Finding:
        """Delete what killed writers left; nothing else does."""
        if self._unreachable() or "put" in self._said:
            return skipped(self._why())
        try:
            found = old_uploads(store)
        except StoreError as error:
            return skipped(f"The store does not list them: {error}")
        for upload in found:
            store.forget(upload)
        if not found:
            return ok("none of more than a day ago")
        size = sum(upload.bytes for upload in found) / 1024**2
        return ok(f"{len(found)} of more than a day ago, {size:,.0f} MiB, killed before they were whole, are dropped")

    def _delete(self, store: Store) -> Finding:
        if self._unreachable():
            return skipped(self._why())
        try:
            store.delete(self._key)
            store.delete_prefix(f"{self._root}/")
            if left := list(store.objects(f"{self._root}/")):
                return failed(
                    f"{len(left)} objects below {self._root} are still there: delete them, and see why the server keeps them."
                )
        finally:
            self._undo()
        return ok("what was put is deleted")

    def _unreachable(self) -> bool:
        # Where the same sentence came twice, the server refuses all alike: more requests would say it again.
        return "endpoint" in self._said or ("list" in self._said and self._said.get("put") == self._said["list"])

    def _why(self) -> str:
        return "The endpoint does not answer." if "endpoint" in self._said else "Nothing could be put."


def _refused(write: Callable[[], str]) -> bool:
    with contextlib.suppress(Conflict):
        write()
        return False
    return True


def _ignores(header: str, harm: str) -> Finding:
    return failed(
        f"The server ignores {header}: {harm}; use a server with conditional writes, such as AWS, MinIO or SeaweedFS of this year."
    )


def _rate(move: Callable[[], int]) -> float:
    """MB a second over about half a second."""
    began, moved = time.monotonic(), 0
    while time.monotonic() - began < HALF_SECOND:
        moved += move()
    return moved / 1e6 / (time.monotonic() - began)
