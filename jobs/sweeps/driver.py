"""Drives one sweep: Ray Tune schedules its trials, each a run in the store; a new driver resumes the sweep from these runs."""

import contextlib
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

from jobs.artifacts.events import EventLog
from jobs.driving.base import BaseDriver
from jobs.driving.outcome import Outcome
from jobs.sweeps.dispatcher import CANCELLED, TrialDispatcher
from jobs.sweeps.progress import SweepProgress
from jobs.sweeps.tune import Capacity, connect, run_trials
from jobs.sweeps.watch import SweepWatch
from jobs.worker_groups.ray_cluster import RayCluster, kill_local_ray
from service.errors import DelaylineError, InfrastructureFailure, LeaseLost, StoreError, UserFailure
from service.records.answers import TrialRow
from service.records.schemas import SIGNAL, Attempt, Failure, RunState, StateDocument
from service.scratch import ScratchFolder
from service.specs.sweep import SweepSpec
from service.sweeps.grouping import MOST_MEMBERS, gathers
from service.sweeps.trials import BUDGET, OVER, counts_of


@dataclass(kw_only=True)
class SweepDriver(BaseDriver[SweepSpec]):
    """One process that drives one sweep under its lease."""

    noun = "sweep"
    module = "jobs.sweep"

    _dispatcher: TrialDispatcher = field(init=False)
    _progress: SweepProgress = field(init=False)
    _rows: list[TrialRow] = field(init=False, default_factory=list)
    """A row for each trial, once Tune has ended."""

    def _take_over(self) -> None:
        def take(previous: StateDocument) -> StateDocument:
            number, state = len(previous.attempts) + 1, self._taken_over(previous)
            # A driver that was killed has written its time into its progress alone.
            used = max(previous.used_seconds or 0.0, self.record.progress().used_seconds or 0.0)
            attempt = Attempt(number=number, workers=(), started=time.time(), finished=None, reason=None)
            return state.changed(attempts=(*state.attempts, attempt), attempt=number, used_seconds=used)

        self.state = self.record.take_state(take)
        attempt, used = len(self.state.attempts), self.state.used_seconds or 0.0
        self._events = EventLog(self.record, attempt, "driver")
        # A budget that is still used up is seen again.
        self.record.cancel.withdraw(BUDGET, SIGNAL)
        self._dispatcher = TrialDispatcher(self.record, self.spec, self.settings, self.folder, self._event)
        self._progress = SweepProgress(self.record, self.spec, self._dispatcher, attempt, used)

    def _drive(self) -> Outcome:
        error: DelaylineError | None = None
        try:
            # The trials' processes are gone when their ends are read.
            with RayCluster.of(self.settings) as cluster:
                self._run_trials(cluster)
        except LeaseLost:
            raise
        except DelaylineError as failure:
            error = failure
        self._rows = self._progress.write()
        return self._outcome(error)

    def _run_trials(self, cluster: RayCluster) -> None:
        """Run Tune to its end; raise what ended it."""
        self._recall()
        first = self._dispatcher.table.first()
        capacity = self._wait_for(
            lambda: connect(cluster, self.spec, first), cluster.wait_limit, self._stop_wanted, len(self.state.attempts)
        )
        if capacity is None:
            self._dispatcher.stopped_by = CANCELLED
            return
        self._dispatcher.share = self._share_of(capacity)
        self._event("running", f"{capacity.parallel} trials run side by side", parallel=capacity.parallel)
        self.state = self.state.changed(state=RunState.RUNNING)
        self._save()
        with self._watch(cluster), ScratchFolder("tune") as scratch:
            run_trials(self.spec, first, capacity, self._dispatcher, Path(scratch))

    def _recall(self) -> None:
        """Take up what earlier drivers of this sweep began."""
        budget, trials = self.spec.budget, self._dispatcher.table
        over = trials.recall(has_time=budget is None or self._progress.used_seconds < budget)
        if known := len(trials.trials):
            self._event("resumed", f"resumes {known - over} of {known} trials; {over} are over", trials=known)

    def _share_of(self, capacity: Capacity) -> int:
        """An equal share of the trials for each process, so that none is idle while another trains many."""
        if not gathers(self.spec):
            return 1
        return min(MOST_MEMBERS, math.ceil(self._dispatcher.table.left / capacity.parallel))

    def _watch(self, cluster: RayCluster) -> SweepWatch:
        return SweepWatch(
            dispatcher=self._dispatcher,
            progress=self._progress,
            stop_wanted=lambda: self._stop_wanted_on(cluster),
            is_alive=cluster.is_alive,
            start_over=self._start_over,
            say=self.say,
        )

    def _stop_wanted(self) -> bool:
        """Whether a person or the system wants the sweep to stop; raise StoreError."""
        return self.stops.wanted.is_set() or self.record.person_cancelled()

    def _stop_wanted_on(self, cluster: RayCluster) -> bool:
        """Whether anybody wants the sweep to stop; that the node of this process is taken away counts as SIGTERM to it."""
        if cluster.leaving().driver and not self.stops.wanted.is_set():
            self.stops.terminate()
        return self._stop_wanted()

    def _start_over(self) -> None:
        """Resume in a new process in the place of this one, from the watch's thread: Tune does not notice that its cluster died."""
        with contextlib.suppress(StoreError):
            self._event("restarted", "Ray's own processes on this machine were lost: the sweep's driver starts again")
            self.state = self.state.changed(used_seconds=self._progress.used_seconds)
            self.state = self.state.with_newest_attempt(finished=time.time(), reason="Ray was lost")
            self._save()
        kill_local_ray()
        self._replace_process()

    def _outcome(self, error: DelaylineError | None) -> Outcome:
        """How the sweep ended, by the rows of its trials and the error that ended Tune, if one did."""
        unended = [row for row in self._rows if row.state not in (*OVER, RunState.CANCELLED)]
        if self._dispatcher.stopped_by is None and unended and self._stop_wanted():
            # No trial begins once that is asked for: Tune may come to its end before the watch has seen it.
            self._dispatcher.stopped_by = CANCELLED
        if self._dispatcher.stopped_by == CANCELLED:
            return Outcome.cancelled()
        if error is not None:
            return Outcome.failed(error)
        if unended:
            which = f"{len(unended)} of {len(self._rows)} trials did not end, {unended[0].id} among them"
            return Outcome.failed(InfrastructureFailure(f"{which}: see its log, and resume with --resume."))
        if self._rows and all(row.state == RunState.FAILED for row in self._rows):
            return Outcome.failed(_all_failed(self._rows))
        return Outcome.succeeded()

    def _with_results(self, state: StateDocument, reason: str) -> StateDocument:
        ended = state.with_newest_attempt(finished=time.time(), reason=reason)
        return ended.changed(metrics=self._progress.metrics(self._rows), used_seconds=self._progress.used_seconds)

    def _remark(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(counts_of(self._rows).items())) or "no trials"
        total = self._progress.total
        if total is not None and len(self._rows) < total:
            counts += f"; {total - len(self._rows)} were not begun"
        return f" ({counts})"


def _all_failed(rows: list[TrialRow]) -> Failure:
    """The error of a sweep all of whose trials failed: what is not their own fault is worth another try, as the exit code says."""
    first = min(rows, key=lambda row: row.error is None or (row.error.kind or UserFailure.kind) == UserFailure.kind)
    which = "the first" if first is rows[0] else first.id
    reason = first.error or Failure(message="for a reason that it could not write down")
    error = UserFailure(f"All {len(rows)} trials failed, {which} by: {reason.message}")
    return Failure.of(error).changed(kind=reason.kind or error.kind, exit_code=reason.exit_code or error.exit_code)
