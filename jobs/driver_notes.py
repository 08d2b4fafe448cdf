"""What the drivers of runs and of sweeps have in common: they tell people and the store what happens, make the page, start anew."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from jobs.progress import EventLog
from service.errors import StoreError
from service.storage.records import Document, Lease, RunRecord, run_summary


class DriverNotes:
    """The part of a driver that writes; its dataclasses hold the fields."""

    record: RunRecord
    lease: Lease
    folder: str
    say: Callable[[str], None]
    state: Document
    _events: EventLog | None

    def _event(self, event: str, message: str, **details: Any) -> None:
        self.say(message)
        if self._events is not None:
            self._events.add(event, message, **details)
            self._events.flush()

    def _save(self) -> None:
        self.record.write_state(self.state)

    def _taken_over(self, previous: Document) -> Document:
        """The state of a run that begins or goes on; attempts that another driver left open are ended."""
        for attempt in previous["attempts"]:
            if attempt.get("finished") is None:
                attempt |= {"finished": time.time(), "reason": "the driver was lost", **self._members(attempt["number"])}
        return {
            "state": "starting",
            "attempts": previous["attempts"],
            "started": previous.get("started") or time.time(),
            "finished": None,
            "metrics": {},
            "error": None,
            "summary": run_summary(self.record.submission()),
        }

    def _members(self, number: int) -> Document:
        """What is known of the workers of an attempt."""
        return {}

    def _report(self) -> None:
        """Write the page. The result stands by now, and nothing here can change it."""
        try:
            from jobs.reports import write_report

            write_report(self.record)
        except Exception as error:
            with contextlib.suppress(StoreError):
                what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                self._event("no report", f"the report could not be written ({what}); `delayline runs report` tries again")

    def _replace_process(self, module: str, spec: Document) -> None:
        """Go on in a new process in the place of this one: Ray cannot leave a cluster that died under it."""
        arguments = ["--run", self.record.run_id, "--store", self.record.store.url, "--folder", self.folder]
        if spec != self.record.submission()["spec"]:
            arguments += ["--spec-changes", json.dumps(spec)]
        os.execv(sys.executable, [sys.executable, "-m", module, *arguments, "--lease-token", self.lease.token])


def error_document(kind: str, exit_code: int, message: str) -> Document:
    """Why a run or a sweep failed, when no worker has said it."""
    return {"kind": kind, "exit_code": exit_code, "message": message, "rank": None, "traceback": ""}
