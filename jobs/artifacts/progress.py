"""What a run reports while it trains: rank 0's progress, metrics and events, written to the store by a thread."""

import threading
import time
from collections.abc import Sequence
from typing import Any

from jobs.artifacts.events import EventLog
from jobs.repeating import Repeating
from service.errors import DelaylineError, LeaseLost, StoreError
from service.records.metrics import Segment
from service.records.run_record import Document, RunRecord
from service.records.schemas import ProgressDocument
from service.storage.shared_document import SharedDocument

TICK_CREDIT = 0.8
"""Writes for each look, on average: in a bucket, where each costs, rank 0's log has the rest (derived: one in ten seconds)."""
FIRST_LOOK = 0.1
"""Seconds until the first write, which names the workers: if the driver is killed before, nobody knows them (assumed: short beside a step)."""
ROWS_TICKS = 5
"""Looks between two writes of rows or of events to a bucket (assumed: who watches a run reads its progress)."""


class ProgressReporter:
    """Collects what the training loop reports and writes it in a thread, so that a slow store never slows a step.

    An error of the store is raised by `check` and `close`, in the caller's thread; so is LeaseLost, once another attempt writes.
    """

    def __init__(self, record: RunRecord, attempt: int, document: Document) -> None:
        self._record = record
        self._attempt = attempt
        self._document: Document = {"attempt": attempt, **document}
        self._shared = SharedDocument(record.store, record.paths.progress, record.nonce)
        self.metrics = record.metrics_ledger(record.label(attempt))
        self.events = EventLog(record, attempt, "rank-0")
        self._lock = threading.Lock()
        self._changed = {"progress"}
        self._since_rows = ROWS_TICKS
        self._credit = 1.0
        self._has_looked = False
        self._error: DelaylineError | None = None
        self._writing = threading.Lock()
        """Held by the thread that writes, so that no older document replaces a newer one."""
        self._looks = Repeating("progress", record.store.look_seconds, self._look, first=FIRST_LOOK)

    def update(self, **values: Any) -> None:
        """Change values of the progress document: `phase`, `epoch`, `step`, `metrics`, `examples_per_second`, …"""
        with self._lock:
            self._document.update(values)
            self._changed.add("progress")

    def restart(self, history: list[Document], sealed: Sequence[Segment] = ()) -> None:
        """Replace the rows of metrics by those of the checkpoint that the run resumes from, the first of which are sealed."""
        self.metrics.restart(sealed, history)
        self._note("rows")

    def add_row(self, row: Document) -> None:
        """Append a row of metrics."""
        self.metrics.add(row)
        self._note("rows")

    def event(self, event: str, message: str, **details: Any) -> None:
        """Add an event."""
        self.events.add(event, message, **details)
        self._note("events")

    def _note(self, what: str) -> None:
        with self._lock:
            self._changed.add(what)

    def check(self) -> None:
        """Raise the error that a write met."""
        if self._error is not None:
            raise self._error

    def confirm(self) -> None:
        """Write the progress now, in the caller's thread; raise LeaseLost where a later attempt has written its own."""
        self.check()
        with self._lock:
            document = {**self._document, "time": time.time()}
        with self._writing:
            self._write_progress(document)

    def settle(self) -> None:
        """Write what was noted so far; raise the error that a write met."""
        self.check()
        with self._writing:
            self._write({"progress", "rows", "events"})

    def close(self) -> None:
        """Write the rest and stop; raise the error that a write met."""
        self._looks.stop()
        self._looks.join()
        self.check()
        self._write({"progress", "rows", "events"})

    def _look(self) -> bool:
        """Write what is due; return whether an error ends the looks."""
        try:
            with self._writing:
                self._write(self._due())
        except (StoreError, LeaseLost) as error:
            self._error = error
        return self._error is not None

    def _due(self) -> set[str]:
        """Return what to write now. A bucket gets less than one write for each look, on average: rows and events wait for their turn."""
        if not self._has_looked:
            self._has_looked = True
            return {"progress"}
        if not self._record.store.counts_requests:
            return {"progress", "rows", "events"}
        self._credit = min(TICK_CREDIT, self._credit + TICK_CREDIT)
        self._since_rows += 1
        if self._changed & {"rows", "events"} and self._since_rows >= ROWS_TICKS:
            self._since_rows = 0
            return {"rows", "events"}
        return {"progress"} if self._credit >= 0 else set()

    def _write(self, due: set[str]) -> None:
        with self._lock:
            changed = self._changed & due
            self._changed -= changed
            document = {**self._document, "time": time.time()}
        self._credit -= len(changed)
        if "rows" in changed:
            self.metrics.flush()
        if "events" in changed:
            self.events.flush()
        if "progress" in changed:
            self._write_progress(document)

    def _write_progress(self, document: Document) -> None:
        progress = ProgressDocument.model_validate(document).document()
        if self._shared.seen:
            self._shared.write(progress)
        else:
            self._shared.update(lambda found: self._first(found, progress))

    def _first(self, found: Document, document: Document) -> Document:
        if not found:
            self._record.check_claim()
        if int(found.get("attempt", 0)) > self._attempt:
            raise LeaseLost(f"Another attempt took over the run {self._record.run_id}; this one stops.")
        return document
