"""Drives one run: holds its lease, makes attempts until one succeeds or it is clear that none will, keeps its state."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from jobs.artifacts.events import EventLog
from jobs.driving.base import BaseDriver, seconds_of
from jobs.driving.heartbeat import Heartbeat
from jobs.driving.outcome import Outcome
from jobs.driving.retries import failures_in_a_row, pause_after
from jobs.driving.stops import SAVE_SECONDS, SIGNAL, Stops
from jobs.training.after_training import trained_progress, was_repeated
from jobs.worker.config import WorkerConfig
from jobs.worker_groups.base import Attempt, Group
from jobs.worker_groups.ray_train import WorkerGroup
from service.errors import InfrastructureFailure, InvalidInput, LeaseLost, StoreError, TimeLimitReached, UserFailure
from service.records.cancel_requests import TIME_LIMIT
from service.records.lease import Lease
from service.records.run_record import Document, RunRecord, from_bytes
from service.scratch import full_disk
from service.settings import Settings
from service.specs.train import TrainSpec

WATCH_SECONDS = 0.5
CANCEL_PATIENCE = 90.0
"""Seconds that a cancelled attempt may take to save and end (assumed: a slow epoch's evaluation and an upload)."""
HUNG_LOOKS = 15
"""While it trains, rank 0 looks for a request to stop, and the driver of a bucket so much more seldom: for a rank 0 that hangs (assumed)."""
_WORSE_FIRST = [each.kind for each in (LeaseLost, UserFailure, InvalidInput, StoreError, InfrastructureFailure)]
"""Of the failures of several workers: what the worst one met, the others saw as a lost peer."""


@dataclass
class Driver(BaseDriver):
    """One process that drives one run under its lease."""

    record: RunRecord
    spec: TrainSpec
    settings: Settings
    lease: Lease
    folder: str
    fresh_budget: bool
    """Whether a person asked for this: retries and time begin anew. A driver that takes over a lost one continues the count, as does one
    of a run that its sweep let pause."""
    say: Callable[[str], None]
    make_group: Callable[[Settings, TrainSpec], Group] | None = None
    stops: Stops = field(default_factory=Stops)
    """What signals have asked of this process."""
    reports: bool = True
    """Whether the run's page is made at its end; that of a trial waits until somebody asks for it."""
    state: Document = field(default_factory=dict)
    _heartbeat: Heartbeat | None = None
    _stop_reason: str | None = None
    _looked: dict[str, float] = field(default_factory=dict)
    _events: EventLog | None = None
    _began: float | None = None
    """The newest attempt, by the monotonic clock."""

    def run(self) -> int:
        """Make attempts until the run ends; return the exit code. The final state is in the store by then."""
        self._take_over()
        self._heartbeat = Heartbeat(self.lease, self.say)
        group = (self.make_group or WorkerGroup)(self.settings, self.spec)
        try:
            return self._finish(self._attempts(group))
        finally:
            self._heartbeat.stop()
            if not self.stops.at_once.is_set():
                group.disconnect()

    def _take_over(self) -> None:
        def take(previous: Document) -> Document:
            first = len(previous["attempts"]) + 1 if self.fresh_budget else previous.get("first_attempt", 1)
            return {**self._taken_over(previous), "first_attempt": first}

        self.record.guard, self.lease.details = self.lease.assure, self._told_to_successor
        self.state = self.record.take_state(take)
        # What the driver before asked for is asked for again, if it is still due.
        self.record.cancel.withdraw(TIME_LIMIT, SIGNAL)

    def _told_to_successor(self) -> Document:
        """In the lease: how long the attempt under way has run."""
        attempts = self.state.get("attempts") or [{"finished": 0.0}]
        if self._began is None or attempts[-1]["finished"] is not None:
            return {}
        return {"attempt": {"number": attempts[-1]["number"], "seconds": time.monotonic() - self._began}}

    def _attempts(self, group: Group) -> Outcome:
        while not self._trained_and_analysed() and (self._trained() or not self._used_up()):
            if self._stop_wanted():
                # Asked for before there was anything to stop: as the run went from one driver to this one.
                return Outcome.cancelled()
            room = self._room(group)
            if isinstance(room, Outcome):
                return room
            outcome = self._attempt(group, room)
            trained = outcome.error is not None and outcome.error["kind"] != LeaseLost.kind and self._trained() is not None
            if not outcome.retryable and not trained:
                return outcome
            if self._trained_and_analysed():
                continue
            if self._stop_wanted():
                return Outcome.cancelled()
            if not trained and self._used_up():
                break
            self._pause(self._failures() - 1)
            if not group.is_alive():
                self._start_over(group)
        last = str(self.state["attempts"][-1]["reason"]).rstrip(".")
        if self._trained():
            return Outcome.failed(InfrastructureFailure(f"{last}, twice").document())
        return Outcome.failed(InfrastructureFailure(f"{last}. The {self.spec.retries} retries are used up.").document())

    def _trained(self) -> Document | None:
        """What the workers said when the training was done, if only the analysis is left to do."""
        try:
            return trained_progress(self.record.progress(), self._counted())
        except StoreError:
            return None

    def _trained_and_analysed(self) -> bool:
        """Whether the analysis was repeated alone too: then the run ends without."""
        return (
            was_repeated(self._counted()) and self.state["attempts"][-1]["finished"] is not None and self._trained() is not None
        )

    def _failures(self) -> int:
        return failures_in_a_row(self.state["attempts"], int(self.state["first_attempt"]))

    def _counted(self) -> list[Document]:
        """The attempts since a person last asked for the run."""
        counted: list[Document] = self.state["attempts"][int(self.state["first_attempt"]) - 1 :]
        return counted

    def _used_up(self) -> bool:
        return self._failures() > self.spec.retries

    def _room(self, group: Group) -> "int | Outcome":
        """How many workers the next attempt has, once Ray stands and there is room for them; or why none begins."""

        def enter() -> int:
            group.connect()
            return group.size()

        try:
            count = self._wait_for(enter, group.wait_limit, lambda: self._stop_wanted(self._looks_now()) or self._out_of_time())
        except InfrastructureFailure as error:
            return Outcome.failed(error.document())
        return Outcome.cancelled() if count is None else count

    def _attempt(self, group: Group, count: int) -> Outcome:
        number = len(self.state["attempts"]) + 1
        attempt: Document = {"number": number, "workers": [], "started": time.time(), "finished": None, "reason": None}
        trained = self._trained()
        if trained is not None:
            attempt["analysis"] = True
        self._begin_events(number)
        self._began = time.monotonic()
        self.state["attempts"].append(attempt)
        self.state["attempt"] = number
        self._save()
        self._event("attempt", f"attempt {number} starts {count} worker{'s' * (count != 1)}", attempt=number, workers=count)
        try:
            outcome = self._watch(group, group.start(self._worker_config(number, count, trained)), number)
        except LeaseLost:
            raise
        except InfrastructureFailure as error:
            outcome = Outcome.failed(error.document())
        reason = outcome.error["message"] if outcome.error else outcome.state
        attempt |= self._end_of_attempt(SIGNAL if reason == "cancelled" and self.stops.by_system else reason)
        attempt |= {**self._members(number), "saved": self._newest_checkpoint()}
        if outcome.error:
            self._event("attempt failed", f"attempt {number} failed: {outcome.error['message']}", kind=outcome.error["kind"])
        self._save()
        return outcome

    def _end_of_attempt(self, reason: str) -> Document:
        seconds = 0.0 if self._began is None else time.monotonic() - self._began
        return {"finished": time.time(), "seconds": seconds, "reason": reason}

    def _start_over(self, group: Group) -> None:
        """Replace this process by a new one that goes on: Ray cannot leave a cluster that died under it."""
        group.kill()
        self._replace_process("jobs.train", self.spec.document())

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

    def _watch(self, group: Group, attempt: Attempt, number: int) -> Outcome:
        """Wait for the attempt's end; notice a request to stop, the time limit, a dead cluster."""
        deadline: float | None = None
        while not attempt.wait(WATCH_SECONDS):
            if self._is_due("phase", 1):
                self._note_phase(number)
            if self.stops.at_once.is_set():
                return Outcome.cancelled()
            if deadline is None and (self._stop_wanted(looks=self._looks_now()) or self._out_of_time()):
                deadline = time.monotonic() + (SAVE_SECONDS if self.stops.by_system else CANCEL_PATIENCE)
            if deadline is not None and (time.monotonic() > deadline or self.state["state"] == "starting"):
                return Outcome.cancelled()
            if not group.is_alive():
                return Outcome.failed(InfrastructureFailure("Ray's own processes on this machine were lost.").document())
        return self._judge(attempt, number)

    def _is_due(self, what: str, looks: int) -> bool:
        """Whether the store is to be asked again, after so many of its usual pauses."""
        now = time.monotonic()
        if now - self._looked.get(what, -math.inf) < looks * self.record.store.look_seconds:
            return False
        self._looked[what] = now
        return True

    def _looks_now(self) -> bool:
        seldom = self.state["state"] == "running" and self.record.store.counts_requests
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
        used = sum(seconds_of(each) for each in counted if each["finished"] is not None)
        if counted and counted[-1]["finished"] is None:
            used += time.monotonic() - (self._began or time.monotonic())
        if used < limit:
            return False
        self._stop_reason = f"The time limit of {limit:g} s was reached; continue with --resume and a higher time_limit."
        self.record.request_cancel(TIME_LIMIT)
        return True

    def _note_phase(self, number: int) -> None:
        if self.state["state"] == "running":
            return
        try:
            progress = self.record.progress()
            if progress.get("attempt") == number and progress.get("phase") not in (None, "starting"):
                self.state["state"] = "running"
                self.state["attempts"][-1] |= self._members(number)
                self._save()
        except StoreError:
            return

    def _judge(self, attempt: Attempt, number: int) -> Outcome:
        if attempt.error is None:
            phase = self.record.progress().get("phase")
            return Outcome.cancelled() if phase == "cancelled" else Outcome.succeeded()
        failures = [
            from_bytes(self.record.store.read(info.key), info.key)
            for info in self.record.store.objects(self.record.paths.failures_root(self.record.label(number)))
        ]
        if failures:
            # What the others saw of a worker that stood still is a lost peer.
            worst = min(failures, key=lambda failure: (_severity(failure["kind"]), not failure.get("stalled")))
            # What never worked is a mistake in the settings, which another attempt would meet again.
            passing = worst["kind"] == StoreError.kind and bool(worst.get("passing")) and self._newest_checkpoint() is not None
            told = ("kind", "exit_code", "message", "rank", "traceback")
            return Outcome.failed({name: worst[name] for name in told}, passing)
        return Outcome.failed(InfrastructureFailure(_describe(attempt.error)).document())

    def _members(self, number: int) -> Document:
        progress = self.record.progress()
        return {"workers": progress["workers"]} if progress.get("attempt") == number and progress.get("workers") else {}

    def _finish(self, outcome: Outcome) -> int:
        progress = self.record.progress()
        if outcome.state == "cancelled" and self._stop_reason:
            outcome = Outcome.failed(TimeLimitReached(self._stop_reason).document())
        if outcome.error is not None and outcome.error["kind"] != LeaseLost.kind and self._trained() is not None:
            lost = outcome.error["message"]
            self._event("not analysed", f"the run is trained; the report will lack its analysis, which was lost: {lost}")
            outcome = Outcome.succeeded()
        result, code = outcome.state, outcome.exit_code
        interrupted = result == "cancelled" and self.stops.by_system and not self.record.person_cancelled()
        self.state |= {
            "state": result,
            "finished": time.time(),
            "metrics": progress.get("metrics", {}),
            "position": {name: progress.get(name) for name in ("epoch", "epochs", "step", "steps")},
            "error": outcome.error,
            "exit_code": code,
            # A person's request that comes as the system stops this driver is the next one's.
            **self.record.handled_cancel(self.state, *((SIGNAL,) if interrupted else ())),
        }
        if interrupted:
            code = InfrastructureFailure.exit_code
            self.state |= {"state": "retrying", "reason": SIGNAL, "finished": None, "exit_code": None}
            self._event(
                "interrupted", "the system stopped the driver: any submission of this run goes on from its last checkpoint"
            )
        else:
            self._event("ended", f"the run ended: {result}", state=result)
        self._save()
        if self._heartbeat is not None:
            self._heartbeat.release()
        self.stops.ended.set()
        if self.reports and not interrupted and not self.stops.at_once.is_set():
            self._report()
        return code

    def _pause(self, failures: int) -> None:
        seconds = pause_after(failures)
        self.state["state"] = "retrying"
        self._event("retrying", f"tries again from the last checkpoint in {seconds:g} s", seconds=seconds)
        self._save()
        self.stops.wait(seconds)


def _severity(kind: str) -> int:
    return _WORSE_FIRST.index(kind) if kind in _WORSE_FIRST else len(_WORSE_FIRST)


def _describe(error: BaseException) -> str:
    """Ray's error in one sentence."""
    failures: dict[int, BaseException] = getattr(error, "worker_failures", {})
    if failures:
        ranks = ", ".join(str(rank) for rank in sorted(failures))
        text = str(next(iter(failures.values()))).strip().splitlines()
        return f"Worker {ranks} was lost: {(text[0] if text else type(error).__name__)[:300]}"
    if isinstance(error, OSError) and (full := full_disk(error)):
        return full
    text = str(getattr(error, "controller_failure", error)).strip().splitlines()
    return f"Ray could not run the workers: {(text[0] if text else type(error).__name__)[:300]}"
