"""Drives one run: makes attempts under its lease until one succeeds or it is clear that none will, keeps its state."""

import contextlib
import math
import time
from dataclasses import dataclass, field

from jobs.driving.attempt_end import outcome_of_attempt
from jobs.driving.base import BaseDriver, seconds_of
from jobs.driving.growth import STANDS_SECONDS, Growth
from jobs.driving.leaving_nodes import LeavingNodes, said_of
from jobs.driving.outcome import Outcome
from jobs.driving.retries import MORE_ROOM, failures_in_a_row, pause_after
from jobs.driving.stops import SAVE_SECONDS
from jobs.training.after_training import trained_progress, was_repeated
from jobs.worker.config import WorkerConfig
from jobs.worker_groups.base import Attempt as UnderWay
from jobs.worker_groups.base import Group, MakeGroup
from jobs.worker_groups.ray_train import WorkerGroup
from service.errors import InfrastructureFailure, LeaseLost, StoreError, TimeLimitReached
from service.records.cancel_requests import NODE, TIME_LIMIT
from service.records.run_record import Document
from service.records.schemas import SIGNAL, Attempt, LeaseAttempt, LeaseDocument, RunState, StateDocument
from service.specs.train import TrainSpec

WATCH_SECONDS = 0.5
CANCEL_PATIENCE = 90.0
"""Seconds that a cancelled attempt may take to save and end (assumed: a slow epoch's evaluation and an upload)."""
HUNG_LOOKS = 15
"""While it trains, rank 0 looks for a request to stop, and the driver of a bucket so much more seldom: for a rank 0 that hangs (assumed)."""


@dataclass(kw_only=True)
class Driver(BaseDriver[TrainSpec]):
    """One process that drives one run under its lease."""

    noun = "run"
    module = "jobs.train"

    fresh_budget: bool
    """Whether a person asked for this: retries and time begin anew. A driver that takes over from a lost one continues the count, as
    does one of a run that its sweep let pause."""
    make_group: MakeGroup = WorkerGroup.of
    watch_seconds: float = WATCH_SECONDS
    """Between looks at an attempt that is under way."""
    cancel_patience: float = CANCEL_PATIENCE
    room_stands: float = STANDS_SECONDS
    """Seconds for which there must be room for more workers before an elastic run takes them."""
    _cluster: contextlib.ExitStack = field(init=False, default_factory=contextlib.ExitStack)
    """What the workers run on; closed, it is left."""
    _stop_reason: str | None = field(init=False, default=None)
    _looked: dict[str, float] = field(init=False, default_factory=dict)
    _began: float | None = field(init=False, default=None)
    """The newest attempt, by the monotonic clock."""

    def run(self) -> int:
        """Make attempts until the run ends; return the exit code. The final state is in the store by then."""
        with self._cluster:
            try:
                return super().run()
            finally:
                if self.stops.at_once.is_set():
                    # The thread that takes signals ends all that there is.
                    self._cluster.pop_all()

    def _take_over(self) -> None:
        def take(previous: StateDocument) -> StateDocument:
            first = len(previous.attempts) + 1 if self.fresh_budget else previous.first_attempt
            return self._taken_over(previous).changed(first_attempt=first)

        self.lease.completed = self._with_time_so_far
        self.state = self.record.take_state(take)
        # What the driver before asked for is asked for again, if it is still due.
        self.record.cancel.withdraw(TIME_LIMIT, SIGNAL, NODE)

    def _with_time_so_far(self, lease: LeaseDocument) -> LeaseDocument:
        """The lease with how long the attempt under way has run, for a successor."""
        attempts = self.state.attempts
        if self._began is None or not attempts or attempts[-1].finished is not None:
            return lease
        return lease.changed(attempt=LeaseAttempt(number=attempts[-1].number, seconds=time.monotonic() - self._began))

    def _drive(self) -> Outcome:
        outcome = self._attempts(self._cluster.enter_context(self.make_group(self.settings, self.spec)))
        if outcome.state == RunState.CANCELLED and self._stop_reason:
            outcome = Outcome.failed(TimeLimitReached(self._stop_reason))
        if outcome.error is not None and outcome.error.kind != LeaseLost.kind and self._trained() is not None:
            lost = outcome.error.message
            self._event("not analysed", f"the run is trained; the report will lack its analysis, which was lost: {lost}")
            return Outcome.succeeded()
        return outcome

    def _attempts(self, group: Group) -> Outcome:
        while not self._trained_and_analysed() and (self._trained() or not self._used_up()):
            if self._stop_wanted():
                # Asked for before there was anything to stop: as the run went from one driver to this one.
                return Outcome.cancelled()
            room = self._room(group)
            if isinstance(room, Outcome):
                return room
            outcome = self._attempt(group, room)
            trained = outcome.error is not None and outcome.error.kind != LeaseLost.kind and self._trained() is not None
            if not outcome.retryable and not trained:
                return outcome
            if self._trained_and_analysed():
                continue
            if self._stop_wanted():
                return Outcome.cancelled()
            if outcome.state == RunState.RETRYING:
                # Nothing is to be waited for but room elsewhere.
                continue
            if not trained and self._used_up():
                break
            self._pause(self._failures() - 1)
            if not group.is_alive():
                self._cluster.close()
                self._replace_process()
        last = str(self.state.attempts[-1].reason).rstrip(".")
        if self._trained():
            return Outcome.failed(InfrastructureFailure(f"{last}, twice"))
        return Outcome.failed(InfrastructureFailure(f"{last}. The {self.spec.retries} retries are used up."))

    def _trained(self) -> Document | None:
        """What the workers said when the training was done, if only the analysis is left to do."""
        try:
            return trained_progress(self.record.progress(), self._counted())
        except StoreError:
            return None

    def _trained_and_analysed(self) -> bool:
        """Whether the analysis was repeated alone too: then the run ends without."""
        return was_repeated(self._counted()) and self.state.attempts[-1].finished is not None and self._trained() is not None

    def _failures(self) -> int:
        return failures_in_a_row(self.state.attempts, self.state.first_attempt)

    def _counted(self) -> tuple[Attempt, ...]:
        """The attempts since a person last asked for the run."""
        return self.state.attempts[self.state.first_attempt - 1 :]

    def _used_up(self) -> bool:
        return self._failures() > self.spec.retries

    def _room(self, group: Group) -> "int | Outcome":
        """How many workers the next attempt has, once Ray stands and there is room for them; or why none begins."""

        def stopped() -> bool:
            return self._stop_wanted(self._looks_now()) or self._out_of_time()

        try:
            count = self._wait_for(group.size, group.wait_limit, stopped, attempt=len(self.state.attempts) + 1)
        except InfrastructureFailure as error:
            return Outcome.failed(error)
        return Outcome.cancelled() if count is None else count

    def _attempt(self, group: Group, count: int) -> Outcome:
        number, trained, newest = len(self.state.attempts) + 1, self._trained(), self._newest_checkpoint()
        attempt = Attempt(number=number, workers=(), started=time.time(), finished=None, reason=None)
        if trained is not None:
            attempt = attempt.changed(analysis=True)
        self._begin_events(number)
        self._began = time.monotonic()
        self.state = self.state.changed(attempts=(*self.state.attempts, attempt), attempt=number)
        self._save()
        self._event("attempt", f"attempt {number} starts {count} worker{'s' * (count != 1)}", attempt=number, workers=count)
        try:
            nodes = LeavingNodes(self.record, group.leaving, self.stops)
            most = 0 if trained is not None else self.spec.worker_counts[0]
            growth = Growth(record=self.record, room=group.room, count=count, most=most, stands=self.room_stands)
            under_way = group.start(self._worker_config(number, count, trained))
            outcome = growth.outcome(nodes.outcome(self._watch(group, under_way, number, nodes, growth)))
        except LeaseLost:
            raise
        except InfrastructureFailure as error:
            outcome = Outcome.failed(error)
        self._end_attempt(number, outcome)
        if outcome.state == RunState.RETRYING:
            self.state = self.state.changed(state=RunState.RETRYING)
            saved = self.state.attempts[-1].saved
            if outcome.why == MORE_ROOM:
                self._event(
                    "grows", f"grows from {count} to {growth.wanted} workers: saved at step {saved}", workers=growth.wanted
                )
            else:
                self._event("node leaving", said_of(newest, saved))
        if outcome.error:
            self._event("attempt failed", f"attempt {number} failed: {outcome.error.message}", kind=outcome.error.kind)
        self._save()
        return outcome

    def _end_attempt(self, number: int, outcome: Outcome) -> None:
        by_system = outcome.state == RunState.CANCELLED and self.stops.by_system
        reason = outcome.why or (outcome.error.message if outcome.error else outcome.state)
        self.state = self.state.with_newest_attempt(
            finished=time.time(),
            seconds=0.0 if self._began is None else time.monotonic() - self._began,
            reason=SIGNAL if by_system else reason,
            **self._members(number),
            saved=self._newest_checkpoint(),
        )

    def _worker_config(self, number: int, count: int, trained: Document | None) -> WorkerConfig:
        return WorkerConfig(
            run_id=self.record.run_id,
            spec=self.spec.document(),
            attempt=number,
            nonce=self.record.nonce,
            workers=count,
            cpus=self.spec.worker.cpus,
            lease_token=self.lease.token,
            folder=self.folder,
            environment=self.settings.for_processes(),
            trained=trained,
        )

    def _watch(self, group: Group, attempt: UnderWay, number: int, nodes: LeavingNodes, growth: Growth) -> Outcome:
        """Wait for the attempt's end; notice a request to stop, the time limit, a node that is taken away, a dead cluster."""
        deadline: float | None = None
        while not attempt.wait(self.watch_seconds):
            if self._is_due("phase", 1):
                self._note_phase(number, nodes)
            nodes.look()
            if self.state.state == RunState.RUNNING and not nodes.noticed:
                growth.look()
            if self.stops.at_once.is_set():
                return Outcome.cancelled()
            if deadline is None and (self._stop_wanted(looks=self._looks_now()) or self._out_of_time()):
                deadline = time.monotonic() + (SAVE_SECONDS if self.stops.by_system else self.cancel_patience)
            if deadline is not None and (time.monotonic() > deadline or self.state.state == RunState.STARTING):
                return Outcome.cancelled()
            if not group.is_alive():
                return Outcome.failed(InfrastructureFailure("Ray's own processes on this machine were lost."))
        return outcome_of_attempt(self.record, number, attempt.error)

    def _is_due(self, what: str, looks: int) -> bool:
        """Whether the store is to be asked again, after so many of its usual pauses."""
        now = time.monotonic()
        if now - self._looked.get(what, -math.inf) < looks * self.record.store.look_seconds:
            return False
        self._looked[what] = now
        return True

    def _looks_now(self) -> bool:
        seldom = self.state.state == RunState.RUNNING and self.record.store.counts_requests
        return self._is_due("cancel", HUNG_LOOKS if seldom else 1)

    def _stop_wanted(self, looks: bool = True) -> bool:
        """Whether a signal, the time limit or, where it `looks` at the store, a request there wants the run to stop."""
        if self._stop_reason is not None or self.stops.wanted.is_set():
            return True
        if not looks:
            return False
        try:
            return self.record.cancel_requested()
        except StoreError:
            return False

    def _out_of_time(self) -> bool:
        limit = self.spec.time_limit
        if limit is None:
            return False
        counted = self._counted()
        used = sum(seconds_of(each) for each in counted if each.finished is not None)
        if counted and counted[-1].finished is None:
            used += time.monotonic() - (self._began or time.monotonic())
        if used < limit:
            return False
        self._stop_reason = f"The time limit of {limit:g} s was reached; continue with --resume and a higher time_limit."
        self.record.request_cancel(TIME_LIMIT)
        return True

    def _note_phase(self, number: int, nodes: LeavingNodes) -> None:
        if self.state.state == RunState.RUNNING:
            return
        try:
            progress = self.record.progress()
            if progress.attempt == number:
                nodes.note(progress)
            if progress.attempt == number and progress.phase not in (None, RunState.STARTING):
                self.state = self.state.changed(state=RunState.RUNNING).with_newest_attempt(**self._members(number))
                self._save()
        except StoreError:
            return

    def _members(self, number: int) -> Document:
        progress = self.record.progress()
        return {"workers": progress.workers} if progress.attempt == number and progress.workers else {}

    def _with_results(self, state: StateDocument, reason: str) -> StateDocument:
        progress = self.record.progress()
        return state.changed(metrics=progress.metrics, position=progress.position)

    def _pause(self, failures: int) -> None:
        seconds = pause_after(failures)
        self.state = self.state.changed(state=RunState.RETRYING)
        self._event("retrying", f"tries again from the last checkpoint in {seconds:g} s", seconds=seconds)
        self._save()
        self.stops.wait(seconds)
