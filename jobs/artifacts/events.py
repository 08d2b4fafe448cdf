"""The events of one writer, in the order in which they happened."""

import threading
import time
from typing import Any

from service.records.run_record import Document, RunRecord, rows_to_bytes


class EventLog:
    """The events of one writer in one attempt, in parts: only the newest part is written again."""

    def __init__(self, record: RunRecord, attempt: int, writer: str) -> None:
        self._record = record
        self.attempt = attempt
        self._label = record.label(attempt)
        self._writer = writer
        self._part = 0
        self._rows: list[Document] = []
        self._lock = threading.Lock()
        self._flushing = threading.Lock()

    def add(self, event: str, message: str, **details: Any) -> None:
        """Note what happened; `flush` writes it."""
        row = {"time": time.time(), "attempt": self.attempt, "event": event, "message": message, **details}
        with self._lock:
            self._rows.append(row)

    def flush(self) -> None:
        """Write the events of this writer that are not in a part that is full."""
        with self._flushing:
            with self._lock:
                rows = list(self._rows)
            data = rows_to_bytes(rows)
            if not data:
                return
            self._record.store.write(self._record.paths.events(self._label, self._writer, self._part), data)
            if len(data) >= SEAL_BYTES:
                self._part += 1
                with self._lock:
                    del self._rows[: len(rows)]


SEAL_BYTES = 16 * 1024
"""Events of so many bytes are not written again (assumed, as for rows of metrics)."""
