"""What a run says while it lives: rank 0 writes progress, metrics, events and TensorBoard files to the store."""

import threading
import time
from typing import Any

from service.errors import StoreError
from service.storage.records import Document, RunRecord, rows_to_bytes

INTERVAL = 0.5
"""Seconds between looks for something new to write (assumed: as often as a person sees a change)."""


class EventLog:
    """The events of one writer in one attempt."""

    def __init__(self, record: RunRecord, attempt: int, writer: str) -> None:
        self._record = record
        self.attempt = attempt
        self._key = record.paths.events(record.label(attempt), writer)
        self._rows: list[Document] = []
        self._lock = threading.Lock()

    def add(self, event: str, message: str, **details: Any) -> None:
        """Note what happened; `flush` writes it."""
        row = {"time": time.time(), "attempt": self.attempt, "event": event, "message": message, **details}
        with self._lock:
            self._rows.append(row)

    def flush(self) -> None:
        """Write all events of this writer."""
        with self._lock:
            data = rows_to_bytes(self._rows)
        if data:
            self._record.store.write(self._key, data)


class ProgressReporter:
    """Keeps what the training loop says and writes it in a thread, so that a slow store never slows a step.

    An error of the store is raised by `check` and `close`, in the caller's thread.
    """

    def __init__(self, record: RunRecord, attempt: int, document: Document, history: list[Document]) -> None:
        self._record = record
        self._document: Document = {"attempt": attempt, **document}
        self._history = list(history)
        self.events = EventLog(record, attempt, "rank-0")
        self._lock = threading.Lock()
        self._changed = {"progress", "metrics"}
        self._error: StoreError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def update(self, **values: Any) -> None:
        """Change values of the progress document: `phase`, `epoch`, `step`, `metrics`, `examples_per_second`, …"""
        with self._lock:
            self._document.update(values)
            self._changed.add("progress")

    def restart(self, history: list[Document]) -> None:
        """Replace the rows of metrics by those of the checkpoint that the run goes on from."""
        with self._lock:
            self._history = list(history)
            self._changed.add("metrics")

    def add_row(self, row: Document) -> None:
        """Append a row of metrics."""
        with self._lock:
            self._history.append(row)
            self._changed.add("metrics")

    def event(self, event: str, message: str, **details: Any) -> None:
        """Note what happened."""
        self.events.add(event, message, **details)
        with self._lock:
            self._changed.add("events")

    def check(self) -> None:
        """Raise the error that a write met."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Write the rest and stop; raise the error that a write met."""
        self._stop.set()
        self._thread.join()
        self.check()
        self._write()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            try:
                self._write()
            except StoreError as error:
                self._error = error
                return

    def _write(self) -> None:
        with self._lock:
            changed, self._changed = self._changed, set()
            document = {**self._document, "time": time.time()}
            history = list(self._history) if "metrics" in changed else []
        if "metrics" in changed:
            self._record.write_history(history)
        if "events" in changed:
            self.events.flush()
        if "progress" in changed:
            self._record.write_progress(document)
