"""What the drivers of runs and of sweeps have in common: they tell people and the store what happens, make the page, start anew."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from jobs.artifacts.events import EventLog
from jobs.driving.stops import Stops
from service.errors import InfrastructureFailure, StoreError
from service.records.lease import Lease
from service.records.run_record import HANDLED, Document, RunRecord, run_summary
from service.user_folder import python

LONGEST_WAIT = 5.0
"""Between looks for room (assumed: short beside what a node takes to come)."""

Entered = TypeVar("Entered")


class BaseDriver:
    """The part of a driver that writes; its dataclasses hold the fields."""

    record: RunRecord
    lease: Lease
    folder: str
    say: Callable[[str], None]
    state: Document
    stops: Stops
    _events: EventLog | None
    _next_event = 1
    """What is told between attempts belongs to the next one."""

    def _event(self, event: str, message: str, **details: Any) -> None:
        self.say(message)
        if self._events is not None:
            self._events.add(event, message, **details)
            self.record.guard()
            self._events.flush()

    def _begin_events(self, number: int) -> None:
        """The events of an attempt, or of the wait for it, go to one object."""
        if self._events is None or self._events.attempt != number:
            self._events = EventLog(self.record, number, "driver")

    def _wait_for(self, enter: Callable[[], Entered], limit: float, stopped: Callable[[], bool]) -> Entered | None:
        """What `enter` gives, once Ray stands and there is room; None when it is `stopped` before. Raise InfrastructureFailure.

        Waiting is no failure: it costs no retry, is told, and ends after `limit` seconds.
        """
        began, pause, told = time.monotonic(), 0.5, ""
        while True:
            try:
                entered = enter()
            except InfrastructureFailure as error:
                why, waited = str(error), time.monotonic() - began
            else:
                self.state.pop("waiting", None)
                return entered
            if stopped():
                return None
            if waited >= limit:
                raise InfrastructureFailure(
                    f"{why.rstrip('.')}. It was waited for {waited:.0f} s; DELAYLINE_WAIT_LIMIT says for how long."
                )
            if why != told:
                told = why
                self._begin_events(len(self.state["attempts"]) + self._next_event)
                self.state["waiting"] = {"since": time.time(), "message": why}
                self._event("waiting", f"waits, {limit:.0f} s at most: {why}")
                self._save()
            self.stops.wait(min(pause, max(0.0, limit - waited)))
            pause = min(2 * pause, LONGEST_WAIT)

    def _save(self) -> None:
        self.record.write_state(self.state)

    def _taken_over(self, previous: Document) -> Document:
        """The state of a run that begins or goes on; attempts that another driver left open are ended."""
        for attempt in previous["attempts"]:
            if attempt.get("finished") is None:
                lost = {"finished": time.time(), "seconds": seconds_of_lost(attempt, self.lease.replaced)}
                attempt |= {**lost, "reason": "the driver was lost"}
                attempt |= {**self._members(attempt["number"]), "saved": self._newest_checkpoint()}
        handled = {HANDLED: previous[HANDLED]} if HANDLED in previous else {}
        return {
            **handled,
            "state": "starting",
            "attempts": previous["attempts"],
            "started": previous.get("started") or time.time(),
            "finished": None,
            "metrics": {},
            "error": None,
            "summary": run_summary(self.record.submission()),
        }

    def _newest_checkpoint(self) -> int | None:
        """The step of the newest checkpoint in the store."""
        found = self.record.checkpoints()
        return int(found[-1]["step"]) if found else None

    def _members(self, number: int) -> Document:
        """What is known of the workers of an attempt."""
        return {}

    def _report(self) -> None:
        """Write the page. The result stands by now, and nothing here can change it."""
        try:
            from jobs.reports.write import write_report

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
        os.execv(sys.executable, [*python(module), *arguments, "--lease-token", self.lease.token])


def seconds_of_lost(attempt: Document, lease: Document) -> float:
    """For how long an attempt of a driver that was lost ran, as far as its lease says it; each by one machine's own clock."""
    told = lease.get("attempt") or {}
    if told.get("number") == attempt["number"]:
        return float(told["seconds"])
    # In the first format a lease and an attempt have times by their driver's clock.
    return max(0.0, float(lease.get("heartbeat") or 0.0) - float(attempt["started"])) if "beat" not in lease else 0.0


def seconds_of(attempt: Document) -> float:
    """For how long an attempt that is over ran; by its driver's wall clock in the first format."""
    if "seconds" in attempt:
        return float(attempt["seconds"])
    return float(attempt["finished"] or attempt["started"]) - float(attempt["started"])
