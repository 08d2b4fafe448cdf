"""The new lines of a run's logs, as its workers ship them to the store, until the run ends."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from service import runs
from service.errors import NotFound, StoreUnreachable
from service.records.run_record import RunRecord
from service.records.schemas import RunState, StateDocument
from service.runs.endings import lost
from service.storage.base import ObjectInfo, Store
from service.storage.paths import RunPaths

LOOK_SECONDS = 1.0
"""Between looks at the store (assumed: workers ship every ten seconds to a bucket, more often to a folder)."""
OVERLAP = 512
"""Bytes of what was shown last that are read again, to see that the log went on and did not slide or start anew (assumed)."""


@dataclass(frozen=True)
class Lines:
    """Whole lines of one process's log; `rank` is None for the driver. `skipped`: some before them were never seen."""

    attempt: int
    rank: int | None
    text: str
    skipped: bool = False


def follow(store: Store, run_id: str, attempt: int | None = None, rank: int | None = None) -> Iterator[Lines]:
    """Yield what the logs say and will say, from the latest attempt on or of one attempt, until the run ends.

    A store that is away is waited for as `runs.watch` does. Raise UnknownName for a run that is not there, InfrastructureFailure
    once nobody drives the run any more.
    """
    logs = FollowedLogs(store, run_id, attempt, rank)
    for update in runs.watch(store, run_id, interval=LOOK_SECONDS):
        if update.problem is not None:
            continue
        last = update.is_ended or update.state == RunState.LOST or _is_over(update.document, attempt)
        try:
            yield from logs.news(last)
        except StoreUnreachable:
            # The next look waits for it, as long as it is to be waited for.
            if last:
                raise
        if update.state == RunState.LOST:
            raise lost(run_id)
        if last:
            return


def _is_over(state: StateDocument, attempt: int | None) -> bool:
    """Whether the attempt that alone is wanted has ended."""
    return any(each.number == attempt and each.finished is not None for each in state.attempts)


@dataclass
class FollowedLogs:
    """A run's logs, as far as they were shown."""

    store: Store
    run_id: str
    attempt: int | None
    rank: int | None
    _tails: dict[tuple[int, int | None], "_Tail"] = field(default_factory=dict)
    _first: int | None = None
    _nonce: str | None = None

    def news(self, last: bool) -> Iterator[Lines]:
        """The new lines of all logs that are wanted; `last`: also the rest of a line that was not ended."""
        if self._nonce is None:
            self._nonce = RunRecord(self.store, self.run_id).nonce
        found = runs.log_parts(self.store, RunPaths(self.run_id).logs, self._nonce)
        if self._first is None and found:
            # One that only starts to look does not want the attempts that are over.
            self._first = self.attempt if self.attempt is not None else max(part.attempt for part in found)
        for (number, rank), parts in groupby(found, key=lambda part: (part.attempt, part.rank)):
            wanted = number == self.attempt if self.attempt is not None else number >= (self._first or 0)
            if wanted and (self.rank is None or rank == self.rank):
                text, skipped = self._tails.setdefault((number, rank), _Tail(self.store)).news(list(parts), last)
                if text:
                    yield Lines(number, rank, text, skipped)


@dataclass
class _Tail:
    """One log: how far it was shown, in the part that was read last, and the end of that."""

    store: Store
    _part: int = -1
    _object: "_Object | None" = None
    _open: bytes = b""

    def news(self, parts: Sequence[runs.LogPart], last: bool) -> tuple[str, bool]:
        """What came since the last look, as whole lines, and whether something before it is lost."""
        data, skipped = b"", False
        for part in parts:
            if part.number < self._part:
                continue
            if part.number > self._part or self._object is None:
                skipped |= part.number > self._part + 1
                self._part, self._object = part.number, _Object(self.store, part.info.key)
            new, lost = self._object.news(part.info, last)
            data, skipped = data + new, skipped or lost
        whole = self._open + data
        end = len(whole) if last else whole.rfind(b"\n") + 1
        self._open = whole[end:]
        return whole[:end].decode(errors="replace"), skipped


@dataclass
class _Object:
    """One object: how far it was read, and the end of that."""

    store: Store
    key: str
    _offset: int = 0
    _shown: bytes = b""
    _seen: tuple[int, float] = (0, 0.0)

    def news(self, info: ObjectInfo, last: bool) -> tuple[bytes, bool]:
        """What came since the last look, and whether something before it is lost."""
        # Its last bytes may have been shipped within the same second as those before.
        if (info.size, info.modified) == self._seen and not last:
            return b"", False
        try:
            found = self._read(info.size)
        except NotFound:
            return b"", False
        self._seen = (info.size, info.modified)
        return found

    def _read(self, size: int) -> tuple[bytes, bool]:
        overlap = self._shown
        start = self._offset - len(overlap)
        data = self.store.read_range(self.key, start, max(size - start, len(overlap)))
        if data.startswith(overlap):
            new, skipped = data[len(overlap) :], False
        else:
            # Of a very long log of the first format the store keeps the end: what was shown last stands further ahead, or is gone.
            data, start = self.store.read(self.key), 0
            at = data.find(overlap)
            new, skipped = (data[at + len(overlap) :], False) if at >= 0 else (data, True)
        self._offset = start + len(data)
        self._shown = data[-OVERLAP:]
        return new, skipped
