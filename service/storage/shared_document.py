"""A document that several processes may write: a process that has not seen its last version cannot.

A process that was paused for longer than its lease continues as if the run were still its own. Its next write names
the version that it saw last; the store refuses it once its successor has written, and LeaseLost ends it.
"""

import secrets
import threading
from collections.abc import Callable

from service.errors import Conflict, LeaseLost, NotFound
from service.storage.base import Store
from service.storage.json_documents import Document, from_bytes, to_bytes

ROUNDS = 20
"""Tries of a write that conflicts with others (assumed: more processes than ever write one document at the same time)."""


class SharedDocument:
    """One object of the store. `nonce` is the run's: what carries another one is a deleted run's, written late, and counts as absent.

    Each version has a `revision` of its own, for an S3 server's versions are checksums of the content: without it a document that
    returns to earlier content would look unchanged. It also shows whose write succeeded after an answer was lost. `guard` is called before each
    write and raises where nothing may be written, as a driver's lease does.
    """

    def __init__(self, store: Store, key: str, nonce: str = "", guard: Callable[[], None] = lambda: None) -> None:
        self.key = key
        self._store = store
        self._nonce = nonce
        self._guard = guard
        self._writer = secrets.token_hex(8)
        self._count = 0
        self._version: str | None = None
        self._lost = False
        self._lock = threading.RLock()
        self.seen = False
        """Whether it was read or written through this object before."""

    def read(self) -> Document:
        """The document, empty where there is none; the next write is one over this version."""
        with self._lock:
            self.seen, self._lost = True, False
            try:
                data, self._version = self._store.read_versioned(self.key)
            except NotFound:
                self._version = None
                return {}
            document = from_bytes(data, self.key)
            return document if self._is_of_this_run(document) else {}

    def write(self, document: Document) -> None:
        """Replace the version that was read or written last, or create the document where none was seen.

        Raise LeaseLost when another process has written or deleted it since, and from then on until it is read again.
        """
        with self._lock:
            if self._lost:
                raise self._loss()
            self._guard()
            self._write(document)

    def _write(self, document: Document) -> None:
        with self._lock:
            data = self._bytes(document)
            for _ in range(ROUNDS):
                try:
                    self._version = self._put(data)
                    self.seen = True
                    return
                except Conflict as conflict:
                    # After a lost answer the last version may be this writer's own.
                    if not self._find_own_version():
                        self._lost = True
                        raise self._loss() from conflict
            raise self._loss()

    def update(self, change: Callable[[Document], Document | None]) -> Document:
        """Replace what is there by what `change` makes of it (None: nothing), as often as others come first; return what is there then.

        For writers that may replace any version: a driver that takes over a run, a person who cancels it.
        """
        for _ in range(ROUNDS):
            found = self.read()
            wanted = change(found)
            if wanted is None:
                return found
            self._guard()
            try:
                self._write(wanted)
                return wanted
            except LeaseLost:
                continue
        raise Conflict(f"The object {self.key!r} in {self._store.url} is changed by others all the time; try again later.")

    def _put(self, data: bytes) -> str:
        if self._version is None:
            return self._store.write(self.key, data, if_absent=True)
        return self._store.write(self.key, data, if_version=self._version)

    def _bytes(self, document: Document) -> bytes:
        self._count += 1
        nonce = {"nonce": self._nonce} if self._nonce else {}
        kept = {name: value for name, value in document.items() if name != "format"}
        return to_bytes({**kept, **nonce, "revision": f"{self._writer}-{self._count}"})

    def _find_own_version(self) -> bool:
        try:
            data, version = self._store.read_versioned(self.key)
        except NotFound:
            return False
        if not str(from_bytes(data, self.key).get("revision", "")).startswith(f"{self._writer}-"):
            return False
        self._version = version
        return True

    def _is_of_this_run(self, document: Document) -> bool:
        return not self._nonce or document.get("nonce", self._nonce) == self._nonce

    def _loss(self) -> LeaseLost:
        return LeaseLost(f"Another process has written {self.key} in {self._store.url} or deleted it; this one stops.")
