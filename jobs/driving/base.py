"""What the drivers of runs and of sweeps share: their life from the lease to the final state, what they say, how they wait."""

import contextlib
import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from jobs.artifacts.events import EventLog
from jobs.driving.heartbeat import Heartbeat
from jobs.driving.outcome import Outcome
from jobs.driving.stops import Stops
from service.errors import InfrastructureFailure, StoreError
from service.records.lease import Lease
from service.records.run_record import Document, RunRecord, queued
from service.records.schemas import SIGNAL, Attempt, LeaseDocument, RunState, StateDocument, Waiting
from service.records.submissions import run_summary
from service.settings import Settings
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec
from service.user_folder import python

LONGEST_WAIT = 5.0
"""Between looks for room (assumed: short beside what a node takes to come)."""
SAY_SECONDS = 30.0
"""Between two words of the same wait on a driver's output (assumed: a person begins to wonder)."""

Entered = TypeVar("Entered")
Spec = TypeVar("Spec", bound=TrainSpec | SweepSpec)


@dataclass(kw_only=True)
class BaseDriver(ABC, Generic[Spec]):
    """One process that drives a run or a sweep under its lease."""

    record: RunRecord
    spec: Spec
    settings: Settings
    lease: Lease
    folder: str
    say: Callable[[str], None]
    stops: Stops = field(default_factory=Stops)
    """What signals have asked of this process."""
    reports: bool = True
    """Whether the page is made at the end; that of a trial waits until somebody asks for it."""
    state: StateDocument = field(init=False, default_factory=queued)
    _events: EventLog | None = field(init=False, default=None)

    noun: ClassVar[str]
    """What is driven, in words for people."""
    module: ClassVar[str]
    """The entry point that drives it."""

    def run(self) -> int:
        """Drive to the end and return the exit code. The final state is in the store by then."""
        self.record.guard = self.lease.assure
        self._take_over()
        heartbeat = Heartbeat(self.lease, self.say)
        try:
            code = self._end(self._drive())
            heartbeat.release()
            self.stops.ended.set()
            if self.reports and self.state.is_ended and not self.stops.at_once.is_set():
                self._report()
            return code
        finally:
            heartbeat.stop()

    @abstractmethod
    def _take_over(self) -> None:
        """Take the state from the driver before, if there was one; withdraw what that asked for itself."""

    @abstractmethod
    def _drive(self) -> Outcome:
        """Do all that is left to do; the outcome is not in the store yet."""

    @abstractmethod
    def _with_results(self, state: StateDocument, reason: str) -> StateDocument:
        """The state with what it says beside the outcome; `reason` is the word for that."""

    def _remark(self) -> str:
        """What the event of the end says beside the outcome."""
        return ""

    def _end(self, outcome: Outcome) -> int:
        """Write the outcome and return the exit code. What the system stopped has no end yet: any submission resumes it."""
        interrupted = outcome.state == RunState.CANCELLED and self.stops.by_system and not self.record.person_cancelled()
        reason = SIGNAL if interrupted else outcome.error.message if outcome.error else outcome.state
        ended = self._with_results(self.state, reason).changed(
            state=outcome.state, finished=time.time(), error=outcome.error, exit_code=outcome.exit_code
        )
        # A person's request that comes as the system stops this driver is the next one's.
        self.state = self.record.with_handled_cancel(ended, *((SIGNAL,) if interrupted else ()))
        if interrupted:
            self.state = self.state.changed(state=RunState.RETRYING, reason=SIGNAL, finished=None, exit_code=None)
            what = f"the system stopped the driver: any submission of this {self.noun} resumes it"
            self._event("interrupted", what + self._remark())
        else:
            self._event("ended", f"the {self.noun} ended: {outcome.state}{self._remark()}", state=outcome.state)
        self._save()
        return InfrastructureFailure.exit_code if interrupted else outcome.exit_code

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

    def _wait_for(self, enter: Callable[[], Entered], limit: float, stopped: Callable[[], bool], attempt: int) -> Entered | None:
        """Return what `enter` gives once Ray stands and there is room; None when it is `stopped` before.

        Waiting is no failure: it costs no retry and is an event of the attempt of this number. Raise InfrastructureFailure after
        `limit` seconds.
        """
        began, since, pause, said, spoken = time.monotonic(), time.time(), 0.5, "", 0.0
        while True:
            try:
                entered = enter()
            except InfrastructureFailure as error:
                why, waited = str(error), time.monotonic() - began
                short = getattr(error, "waiting", why).rstrip(".")
            else:
                if self.state.waiting is not None:
                    self.state = self.state.without("waiting")
                return entered
            if stopped():
                return None
            if waited >= limit:
                raise InfrastructureFailure(
                    f"{why.rstrip('.')}. It was waited for {waited:.0f} s; DELAYLINE_WAIT_LIMIT says for how long."
                )
            if short != said:
                said, spoken = short, waited
                self._begin_events(attempt)
                self.state = self.state.changed(waiting=Waiting(since=since, message=short))
                self._event("waiting", f"{short}; waiting {waited:.0f} s, {limit:.0f} s at most")
                self._save()
            elif waited - spoken >= SAY_SECONDS:
                spoken = waited
                self.say(f"{short}; waiting {waited:.0f} s")
            self.stops.wait(min(pause, max(0.0, limit - waited)))
            pause = min(2 * pause, LONGEST_WAIT)

    def _save(self) -> None:
        self.record.write_state(self.state)

    def _taken_over(self, previous: StateDocument) -> StateDocument:
        """The state in which a driver begins or resumes; attempts that another driver left open are ended."""
        state = StateDocument(
            state=RunState.STARTING,
            attempts=tuple(self._lost(each) if each.finished is None else each for each in previous.attempts),
            started=previous.started or time.time(),
            finished=None,
            metrics={},
            error=None,
            summary=run_summary(self.record.submission()),
        )
        return state if previous.handled_cancel is None else state.changed(handled_cancel=previous.handled_cancel)

    def _lost(self, attempt: Attempt) -> Attempt:
        """An attempt as it ended when its driver was lost."""
        return attempt.changed(
            finished=time.time(),
            seconds=seconds_of_lost(attempt, self.lease.replaced),
            reason="the driver was lost",
            **self._members(attempt.number),
            saved=self._newest_checkpoint(),
        )

    def _newest_checkpoint(self) -> int | None:
        """The step of the newest checkpoint in the store."""
        found = self.record.checkpoints()
        return found[-1].step if found else None

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

    def _replace_process(self) -> None:
        """Resume in a new process in the place of this one: Ray cannot leave a cluster that died under it."""
        spec: Document = self.spec.document()
        changes = ["--spec-changes", json.dumps(spec)] if spec != self.record.submission().spec else []
        where = ["--run", self.record.run_id, "--store", self.record.store.url, "--folder", self.folder]
        os.execv(sys.executable, [*python(self.module), *where, *changes, "--lease-token", self.lease.token])


def seconds_of_lost(attempt: Attempt, lease: LeaseDocument | None) -> float:
    """For how long an attempt of a driver that was lost ran, as far as its lease says; each by one machine's own clock."""
    if lease is None:
        return 0.0
    if lease.attempt is not None and lease.attempt.number == attempt.number:
        return lease.attempt.seconds
    # In the first format a lease and an attempt have times by their driver's clock.
    return max(0.0, (lease.heartbeat or 0.0) - attempt.started) if lease.beat is None else 0.0


def seconds_of(attempt: Attempt) -> float:
    """For how long an attempt that is over ran; by its driver's wall clock in the first format."""
    if attempt.seconds is not None:
        return attempt.seconds
    return (attempt.finished or attempt.started) - attempt.started
