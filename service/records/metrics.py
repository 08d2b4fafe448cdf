"""A run's rows of metrics: in parts that are written once, so that a row costs the same however many there are.

The newest rows are in an open part, which is written again until it is long enough; then it is sealed. An index says which
parts count, in which order. It is a shared document that the attempt at work owns: what an attempt that is over still writes
stands in parts of its own, which nobody reads.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from service.errors import Damaged, LeaseLost, NotFound
from service.records.stored_document import StoredDocument, fitted
from service.storage.base import Store
from service.storage.json_documents import Document, from_bytes, rows_from_bytes, rows_to_bytes
from service.storage.paths import RunPaths, number_of
from service.storage.shared_document import SharedDocument

SEAL_BYTES = 16 * 1024
"""An open part of so many bytes is sealed (assumed: half of it is what a new row costs; a reader asks for few parts)."""


@dataclass(frozen=True)
class Segment:
    """Sealed parts of one attempt that follow each other: the number of the first, how many, their rows, the sha256 of all their bytes."""

    label: str
    first: int = 0
    parts: int = 0
    rows: int = 0
    sha256: str = ""

    def keys(self, paths: RunPaths) -> list[str]:
        """The parts' keys."""
        return [paths.metrics_part(self.label, self.first + number) for number in range(self.parts)]


class MetricsIndex(StoredDocument):
    """`metrics.json`: the sealed parts that count, and the number of the open one of the attempt that has the index."""

    owner: str
    open: int
    segments: tuple[Segment, ...] = ()


def read_parts(store: Store, paths: RunPaths, nonce: str) -> list[tuple[str, bytes]]:
    """The key and the bytes of each part that counts, in their order: all rows so far."""
    for last in (False, True):
        index = _index(store, paths, nonce)
        if index is None:
            return list(store.read_many([paths.metrics]).items())
        sealed = [key for segment in index.segments for key in segment.keys(paths)]
        opened = paths.metrics_part(index.owner, index.open)
        found = store.read_many([*sealed, opened])
        missing = [key for key in sealed if key not in found]
        if not missing:
            return [(key, found[key]) for key in (*sealed, opened) if key in found]
        # An attempt that began meanwhile may have dropped it: the index tells.
        if last:
            raise Damaged(
                f"The store's object {missing[0]} is missing: restore it, or delete {paths.metrics_index} to go without."
            )
    return []


def read_sealed(store: Store, paths: RunPaths, segments: Sequence[Segment]) -> list[Document]:
    """The rows of these segments; raise Damaged where they are not what was sealed."""
    rows: list[Document] = []
    for segment in segments:
        keys = segment.keys(paths)
        found = store.read_many(keys)
        data = b"".join(found.get(key, b"") for key in keys)
        read = rows_from_bytes(data)
        if hashlib.sha256(data).hexdigest() != segment.sha256 or len(read) != segment.rows:
            raise Damaged(f"The rows of metrics {keys[0]} and after are not those that the checkpoint was saved with.")
        rows += read
    return rows


class MetricsLedger:
    """Writes the rows of one attempt, in the thread that calls `flush`; rows are added from another one."""

    def __init__(self, store: Store, paths: RunPaths, nonce: str, label: str, check_claim: Callable[[], None]) -> None:
        self._store = store
        self._paths = paths
        self._nonce = nonce
        self._check_claim = check_claim
        self._document = SharedDocument(store, paths.metrics_index, nonce)
        self._lock = threading.Lock()
        self._base: list[Segment] = []
        self._own = Segment(label)
        self._sealed: list[Segment] = []
        """This attempt's own segment as it was after each part."""
        self._sha256 = hashlib.sha256()
        self._open: list[bytes] = []
        self._written = 0
        """Rows of the open part that are in the store."""
        self._begun = False
        self._owns = False

    def restart(self, sealed: Sequence[Segment], rows: Sequence[Document]) -> None:
        """Begin with these rows, the first of which stand in `sealed`."""
        with self._lock:
            self._base, self._begun, self._owns = list(sealed), True, False
            self._own = Segment(self._own.label, self._own.first + self._own.parts + bool(self._written))
            self._sealed, self._sha256, self._written = [], hashlib.sha256(), 0
            self._open = [rows_to_bytes([row]) for row in rows[sum(segment.rows for segment in sealed) :]]

    def add(self, row: Document) -> None:
        """Append a row."""
        with self._lock:
            self._begun = True
            self._open.append(rows_to_bytes([row]))

    def reference(self, rows: int) -> list[Segment]:
        """Segments, in the store by now, that hold the first of so many rows; the others are for whoever asks to keep.

        A later checkpoint never refers to fewer of them than one before it: what it does not is dropped when it is resumed from.
        """
        with self._lock:
            before = sum(segment.rows for segment in self._base)
            if before > rows:
                return []
            own = [segment for segment in self._sealed if before + segment.rows <= rows][-1:]
            return [*self._base, *own]

    def flush(self) -> None:
        """Write what is new; raise LeaseLost where a later attempt has the index."""
        with self._lock:
            lines, begun = list(self._open), self._begun
        if not begun or (self._owns and len(lines) == self._written):
            return
        data = b"".join(lines)
        if data:
            self._store.write(self._paths.metrics_part(self._own.label, self._own.first + self._own.parts), data)
        self._written = len(lines)
        seals = len(data) >= SEAL_BYTES
        own = self._grown(data, len(lines)) if seals else self._own
        if not self._owns:
            self._take(own)
        elif seals:
            self._document.write(self._as_document(own))
        with self._lock:
            self._owns = True
            if seals:
                self._own, self._written = own, 0
                self._sealed.append(own)
                del self._open[: len(lines)]

    def _grown(self, data: bytes, rows: int) -> Segment:
        self._sha256.update(data)
        own = self._own
        return replace(own, parts=own.parts + 1, rows=own.rows + rows, sha256=self._sha256.hexdigest())

    def _take(self, own: Segment) -> None:
        def change(document: Document) -> Document:
            if not document:
                self._check_claim()
            if (number_of(str(document.get("owner", "")), self._nonce) or 0) > self._number:
                raise LeaseLost(f"Another attempt took over the run {self._paths.run_id}; this one stops.")
            return self._as_document(own)

        self._document.update(change)
        self._drop_others(own)

    def _drop_others(self, own: Segment) -> None:
        """Delete the parts of attempts before this one that no longer count."""
        kept = {key for segment in self._base for key in segment.keys(self._paths)}
        root = self._paths.metrics_root
        for info in list(self._store.objects(root)):
            name = info.key[len(root) :]
            number = number_of(name, self._nonce)
            if info.key not in kept and not name.startswith(f"{own.label}.") and number is not None and number <= self._number:
                self._store.delete(info.key)
        self._store.delete(self._paths.metrics)

    @property
    def _number(self) -> int:
        return number_of(self._own.label, self._nonce) or 0

    def _as_document(self, own: Segment) -> Document:
        segments = [*self._base, *([own] if own.parts else [])]
        return MetricsIndex(owner=own.label, open=own.first + own.parts, segments=tuple(segments)).document()


def shared_prefix(store: Store, paths: RunPaths, nonce: str, rows: Sequence[Document]) -> list[Segment]:
    """Of the parts that count those which begin `rows`."""
    kept: list[Segment] = []
    place = 0
    index = _index(store, paths, nonce)
    for segment in index.segments if index else ():
        found, sha256 = store.read_many(segment.keys(paths)), hashlib.sha256()
        same = replace(segment, parts=0, rows=0)
        for key in segment.keys(paths):
            part = rows_from_bytes(found.get(key, b""))
            if not part or list(rows[place : place + len(part)]) != part:
                break
            sha256.update(found[key])
            place += len(part)
            same = replace(same, parts=same.parts + 1, rows=same.rows + len(part), sha256=sha256.hexdigest())
        if same.parts:
            kept.append(same)
        if same.parts < segment.parts:
            break
    return kept


def _index(store: Store, paths: RunPaths, nonce: str) -> MetricsIndex | None:
    """The run's index; None before it has one, and where another run of the id wrote it."""
    try:
        document = from_bytes(store.read(paths.metrics_index), paths.metrics_index)
    except NotFound:
        return None
    if nonce and document.get("nonce", nonce) != nonce:
        return None
    return fitted(MetricsIndex, document, paths.metrics_index)
