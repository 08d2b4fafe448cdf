"""A run's updates as they come, until its end."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from service.errors import StoreUnreachable
from service.records.lease import LEASE_SECONDS
from service.records.run_record import RunRecord, queued
from service.records.schemas import Event, ProgressDocument, RunState, StateDocument
from service.records.standing import is_driven
from service.runs.describe import with_silence
from service.storage.base import Store

EVENT_SECONDS = 2.0
"""Between looks at the events and the lease while watching (assumed: they matter less often than the step)."""


@dataclass(frozen=True)
class Update:
    """What a look at a run found.

    `state` as a reader sees it, None before the store answered for the first time; `document` and `progress` as the driver and
    rank 0 wrote them; `events` that are new; `problem`: why nothing could be read this time, or None.
    """

    state: RunState | None
    document: StateDocument
    progress: ProgressDocument
    events: list[Event]
    problem: str | None = None

    @property
    def is_ended(self) -> bool:
        """Whether the run has ended."""
        return self.state is not None and self.state.is_ended


def watch(
    store: Store, run_id: str, *, earlier_end: float | None = None, interval: float | None = None, patience: float = 300.0
) -> Iterator[Update]:
    """Look at a run every `interval` seconds until its end; updates of state `lost` are left to the caller to stop at.

    Without an interval it looks every two seconds, in a folder more often. `earlier_end`: an end at this time is that of an
    earlier submission and does not count. A store that is away is waited for `patience` seconds; then StoreUnreachable is raised.
    """
    watcher = _Watcher(RunRecord(store, run_id), earlier_end)
    away_since: float | None = None
    while True:
        try:
            update, away_since = watcher.look(), None
        except StoreUnreachable as error:
            away_since = time.monotonic() if away_since is None else away_since
            if time.monotonic() - away_since > patience:
                raise
            update = watcher.blind(str(error))
        yield update
        if update.problem is None and update.is_ended:
            return
        time.sleep(store.look_seconds if interval is None else interval)


class _Watcher:
    """Remembers which events were seen, when the slow looks are due, and since when nobody drives the run."""

    def __init__(self, record: RunRecord, earlier_end: float | None) -> None:
        self._record = record
        self._earlier_end = earlier_end
        record.submission()
        self._slow_look = 0.0
        self._alone_since: float | None = None
        self._seen: set[tuple[float, str, str]] = set() if earlier_end is None else {_identity(row) for row in record.events()}
        self._last = Update(None, queued(), ProgressDocument(), [])
        self._idle: float | None = None
        """For how long a rank 0 that has not written any progress for long made no step."""

    def look(self) -> Update:
        """Read what changes often, and now and then the rest."""
        document, progress = self._record.state(), self._record.progress()
        if self._earlier_end is not None and document.is_ended and document.finished == self._earlier_end:
            document, progress = document.changed(state=RunState.QUEUED), ProgressDocument()
        state, events = document.state, list[Event]()
        if state != self._last.document.state or time.monotonic() - self._slow_look > EVENT_SECONDS:
            events = self._new_events()
            self._note_whether_alone(document)
            told = with_silence(self._record, state if self._alone_since is None else RunState.LOST, document, progress)
            self._idle = None if told is progress else told.idle_seconds
            self._slow_look = time.monotonic()
        alone = self._alone_since is not None and time.monotonic() - self._alone_since > LEASE_SECONDS
        shown = RunState.LOST if alone and not state.is_ended else state
        self._last = Update(
            shown, document, progress if self._idle is None else progress.changed(idle_seconds=self._idle), events
        )
        return self._last

    def blind(self, problem: str) -> Update:
        """The last update once more, for a look that failed."""
        return Update(self._last.state, self._last.document, self._last.progress, [], problem)

    def _note_whether_alone(self, document: StateDocument) -> None:
        # A driver that was killed is started again within seconds: only a run that stays alone is lost.
        if document.is_ended or is_driven(self._record, document):
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()

    def _new_events(self) -> list[Event]:
        rows = [row for row in self._record.events() if _identity(row) not in self._seen]
        self._seen |= {_identity(row) for row in rows}
        return rows


def _identity(row: Event) -> tuple[float, str, str]:
    return (row.time, row.event, row.message)
