"""Drives one sweep: Ray Tune schedules its trials, each a run in the store, which is what a sweep is gone on with from."""

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from jobs.artifacts.events import EventLog
from jobs.driving.base import BaseDriver
from jobs.driving.heartbeat import Heartbeat, end_process
from jobs.driving.outcome import Outcome
from jobs.driving.stops import SIGNAL, Stops
from jobs.sweeps.trial_order import TrialOrder
from jobs.sweeps.trial_table import TrialTable
from jobs.sweeps.tune import Capacity, connect, disconnect, run_trials
from jobs.worker_groups.ray_cluster import kill_local_ray, local_ray_lives
from jobs.worker_groups.ray_train import LOCAL_WAIT
from service.errors import DelaylineError, InfrastructureFailure, LeaseLost, StoreError, UserFailure
from service.records.cancel_requests import SWEEP
from service.records.lease import Lease
from service.records.run_record import Document, RunRecord
from service.records.schemas import ENDED
from service.scratch import ScratchFolder
from service.settings import Settings
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec
from service.sweeps.grouping import MOST_MEMBERS, gathers
from service.sweeps.points import UNBOUNDED
from service.sweeps.trials import BUDGET, OVER, best_of, counts_of, seconds_left, table, trial_rows, value_of

LOOK_SECONDS = 0.5
WATCH_PATIENCE = 60.0
"""Seconds for the watch's last look at all trials (assumed: longer than a store takes for it)."""
PROGRESS_SECONDS = 2.0
"""Between looks at all trials for the sweep's own progress (assumed: as often as a person looks)."""


@dataclass
class SweepDriver(BaseDriver):
    """One process that drives one sweep under its lease."""

    record: RunRecord
    spec: SweepSpec
    settings: Settings
    lease: Lease
    folder: str
    say: Callable[[str], None]
    stops: Stops = field(default_factory=Stops)
    state: Document = field(default_factory=dict)
    _ended_rows: dict[str, Document] = field(default_factory=dict)
    _live: set[str] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _over: threading.Event = field(default_factory=threading.Event)
    _companions: dict[str, list[str]] = field(default_factory=dict)
    """By the run that Tune knows: those that train together with it."""
    _share: int = 1
    """So many trials may train together."""
    _why: str | None = None
    """Why no more trials begin: `cancelled`, `budget`, or None."""
    _events: EventLog | None = None
    _next_event = 0
    _home: int = -1
    """The folder in which the driver was started, opened."""

    def run(self) -> int:
        """Run trials until all that can end have ended; return the exit code. The final state is in the store by then."""
        self._take_over()
        heartbeat = Heartbeat(self.lease, self.say)
        self._trial_table = TrialTable(self.record, self.spec, lambda message: self._event("left out", message))
        try:
            error = self._run_trials()
            self._over.set()
            disconnect()
            code = self._finish(error)
            heartbeat.release()
            self.stops.ended.set()
        finally:
            self._over.set()
            heartbeat.stop()
        if self.state["state"] in ENDED:
            self._report()
        return code

    def _take_over(self) -> None:
        def take(previous: Document) -> Document:
            number = len(previous["attempts"]) + 1
            # A driver that was killed has told of its time in its progress alone.
            used = max(float(told.get("used_seconds") or 0.0) for told in (previous, self.record.progress()))
            state = {**self._taken_over(previous), "attempt": number, "used_seconds": used}
            attempt = {"number": number, "workers": [], "started": time.time(), "finished": None, "reason": None}
            return {**state, "attempts": [*state["attempts"], attempt]}

        self.record.guard = self.lease.assure
        self.state = self.record.take_state(take)
        self._events = EventLog(self.record, self.state["attempt"], "driver")
        # A budget that is still used up is seen again.
        self.record.cancel.withdraw(BUDGET, SIGNAL)

    def _run_trials(self) -> Document | None:
        """Run Tune to its end; the error that ended it, or None."""
        try:
            self._recall()
            first = self._trial_table.first()
            capacity = self._wait_for(lambda: connect(self.settings, self.spec, first), self._wait_limit(), self._stop_wanted)
            if capacity is None:
                self._why = "cancelled"
                return None
            self._share = self._share_of(capacity)
            self._event("running", f"{capacity.parallel} trials run side by side", parallel=capacity.parallel)
            self.state["state"] = "running"
            self._save()
            watch = threading.Thread(target=self._watch, name="watch", daemon=True)
            watch.start()
            try:
                self._tune(capacity, first)
            finally:
                self._over.set()
                # Its last look at the trials would replace what is written of their end.
                watch.join(WATCH_PATIENCE)
        except LeaseLost:
            raise
        except DelaylineError as error:
            return error.document()
        return None

    def _wait_limit(self) -> float:
        local = self.settings.ray_address in (None, "local")
        return min(self.settings.wait_limit, LOCAL_WAIT) if local else self.settings.wait_limit

    def _stop_wanted(self) -> bool:
        """Whether a person or the system wants the sweep to stop; raise StoreError."""
        return self.stops.wanted.is_set() or self.record.person_cancelled()

    def _share_of(self, capacity: Capacity) -> int:
        """An equal share of the trials for each process, so that none is idle while another trains many."""
        if not gathers(self.spec):
            return 1
        return min(MOST_MEMBERS, math.ceil(self._trial_table.left / capacity.parallel))

    def _tune(self, capacity: Capacity, first: TrainSpec) -> None:
        self._home = os.open(".", os.O_RDONLY)
        # Tune asks for the current folder, and fails where that is gone: the nodes of a cluster that lie on one machine have one
        # folder for a job's files, and each deletes it to make it anew.
        with ScratchFolder("tune") as scratch:
            os.chdir(scratch)
            try:
                run_trials(self.spec, first, capacity, self._take, self._ended, self, Path(scratch))
            finally:
                os.fchdir(self._home)

    def _recall(self) -> None:
        """Take up what earlier drivers of this sweep began."""
        budget = self.spec.budget
        over = self._trial_table.recall(has_time=budget is None or self.state["used_seconds"] < budget)
        if self._trial_table.trials:
            left, known = len(self._trial_table.trials) - over, len(self._trial_table.trials)
            self._event("resumed", f"goes on with {left} of {known} trials; {over} are over", trials=known)

    def _take(self) -> Document | None:
        """The order of the next trial for Tune, and of those that train together with it, or None when there is none any more."""
        with self._lock:
            trials = self._trial_table.take_group(self._share) if self._why is None else []
            if not trials:
                return None
            first, *others = (trial["id"] for trial in trials)
            self._live |= {first, *others}
            self._companions[first] = others
            if others:
                self._event("together", f"{first} and {len(others)} other trials train together", trials=[first, *others])
            return self._order(trials[0], others)

    def params(self, run_id: str) -> Document:
        """The values with which a trial trains now."""
        with self._lock:
            found: Document = self._trial_table.find(run_id)["params"]
            return found

    def mutate(self, run_id: str, donor: str, step: int, params: Document) -> Document:
        """Note that a trial takes over from another one's `step` and goes on with `params`, or what is allowed of them; its order."""
        with self._lock:
            trial = self._trial_table.find(run_id)
            self._trial_table.mutate(trial, self._trial_table.find(donor), step, params)
        values = ", ".join(f"{key} {value:.4g}" for key, value in trial["params"].items())
        self._event("took over", f"{run_id} takes over from {donor} at step {step} and goes on with {values}", trial=run_id)
        return self._order(trial)

    def note_taken(self, run_id: str, result: Document) -> None:
        """Note that a trial goes on, and which checkpoint it took over, as it reports."""
        with self._lock:
            self._trial_table.note_turn(self._trial_table.find(run_id))
            if "taken" in result:
                self._trial_table.note_taken(self._trial_table.find(run_id), result["mutation"], result["taken"])

    def pause(self, run_id: str) -> None:
        """Let a trial save and leave its process to another one."""
        with self._lock, contextlib.suppress(StoreError):
            if self._why is None:
                self._trial_table.note_pause(self._trial_table.find(run_id))
            RunRecord(self.record.store, run_id).request_cancel(SWEEP)

    def _order(self, trial: Document, companions: Sequence[str] = ()) -> Document:
        order = TrialOrder(
            id=trial["id"],
            sweep=self.record.run_id,
            store=self.record.store.url,
            folder=self.folder,
            metric=self.spec.metric,
            by_evaluation=self.spec.scheduler.name != "none",
            from_history=self.spec.scheduler.learns_again,
            over=trial["id"] in self._trial_table.over,
            mutation=self._trial_table.mutation(trial),
            distributed=self.spec.workers != (1, 1),
            local=self.settings.ray_address in (None, "local"),
            environment=self.settings.for_processes(),
            companions=tuple(companions),
        )
        return asdict(order)

    def _ended(self, run_id: str, result: Document | None) -> None:
        """A trial's end, as Tune tells it; without `over` the scheduler stopped it."""
        with self._lock:
            others = self._companions.pop(run_id, [])
            self._live -= {run_id, *others}
            self.note_taken(run_id, result or {})
            trial = self._trial_table.find(run_id)
            if result is not None and not result.get("over"):
                self._stop_early(trial, result)
            elif result is not None and others:
                self._note_group([trial, *map(self._trial_table.find, others)])
            elif result is not None:
                self._trial_table.note_value(trial, result.get(self.spec.metric))

    def _note_group(self, trials: list[Document]) -> None:
        """Their results, which are in the store."""
        for trial, row in zip(trials, trial_rows(self.record.store, trials), strict=True):
            self._trial_table.note_value(trial, value_of(row, self.spec.metric))

    def _stop_early(self, trial: Document, result: Document) -> None:
        record, policy = RunRecord(self.record.store, trial["id"]), self.spec.scheduler
        value = result.get(self.spec.metric)
        shown = f"{self.spec.metric} {value:.4f}" if isinstance(value, float) else self.spec.metric
        why = f"{policy.name}: after {result.get('evaluation')} evaluations {shown} was not among the best"
        self._trial_table.note_value(trial, value)
        if "stopped" not in trial and record.state()["state"] not in ("succeeded", "failed"):
            self._trial_table.note_stop([trial], {"by": policy.name, "evaluation": result.get("evaluation"), "message": why})
            with contextlib.suppress(StoreError):
                record.request_cancel(SWEEP)
            self._event("stopped", f"{trial['id']} stopped early by {why}", trial=trial["id"])

    def _watch(self) -> None:
        """Notice a request to stop and the end of the budget; write the sweep's progress."""
        try:
            self._watch_until_over()
        except LeaseLost as error:
            end_process(error, self.say)

    def _watch_until_over(self) -> None:
        began, used, told = time.monotonic(), float(self.state["used_seconds"]), 0.0
        while not self._over.wait(max(LOOK_SECONDS, self.record.store.look_seconds)):
            self.state["used_seconds"] = used + time.monotonic() - began
            with contextlib.suppress(StoreError):
                if self._why is None and self._stop_wanted():
                    self._stop_all("cancelled")
                elif self._why is None and self.spec.budget is not None and self.state["used_seconds"] > self.spec.budget:
                    self._stop_all(BUDGET)
                elif self._why is not None:
                    self._ask_live_ones()
                if time.monotonic() - told > PROGRESS_SECONDS:
                    self._write_progress()
                    told = time.monotonic()
            if self.settings.ray_address in (None, "local") and not local_ray_lives() and not self._over.is_set():
                self._start_over()

    def _start_over(self) -> None:
        """Replace this process by a new one that goes on: Tune waits for ever for a cluster that died under it."""
        with self._lock, contextlib.suppress(StoreError):
            self._event("restarted", "Ray's own processes on this machine were lost: the sweep's driver starts again")
            self.state["attempts"][-1] |= {"finished": time.time(), "reason": "Ray was lost"}
            self._save()
        kill_local_ray()
        os.fchdir(self._home)
        self._replace_process("jobs.sweep", self.spec.document())

    def _stop_all(self, why: str) -> None:
        """Begin no more trials and let those under way save and stop."""
        with self._lock:
            self._trial_table.end_pauses()
            if why == BUDGET:
                unended = {run.run_id for run in self._under_way()} | self._trial_table.due
                stopped = [trial for trial in self._trial_table.trials if trial["id"] in unended]
                self._trial_table.note_stop(stopped, {"by": BUDGET, "message": "the sweep's budget was used up"})
                self.record.request_cancel(reason=BUDGET)
                self._event("budget", f"the budget of {self.spec.budget:g} s is used up: trials under way are stopped")
            # Last: where the store refused any of it, the next look does it all.
            self._why = why
            self._ask_live_ones()

    def _ask_live_ones(self) -> None:
        for run in self._under_way():
            if not run.cancel_requested():
                run.request_cancel(SWEEP)

    def _under_way(self) -> list[RunRecord]:
        """The runs that processes have and that are not over: those of a group end one by one."""
        runs = [RunRecord(self.record.store, run_id) for run_id in sorted(self._live)]
        return [run for run in runs if run.state()["state"] not in OVER]

    def _write_progress(self) -> list[Document]:
        rows = self._rows()
        total = self._trial_table.total if self._trial_table.total < UNBOUNDED else None
        used = self.state["used_seconds"]
        best = best_of(rows, self.spec.metric, self.spec.mode)
        self.record.write_progress(
            {
                "attempt": self.state["attempt"],
                "phase": "running",
                "trials": counts_of(rows),
                "total": total,
                "used_seconds": used,
                "eta_seconds": seconds_left(rows, total, used, self.spec.budget),
                "best": best,
                "table": table(rows, self.spec.metric, self.spec.mode),
                "metrics": {self.spec.metric: best["mean"]} if best else {},
            }
        )
        return rows

    def _rows(self) -> list[Document]:
        """All trials as they stand; those that are over are read once."""
        with self._lock:
            trials, due = list(self._trial_table.trials), self._live | self._trial_table.due
        fresh = trial_rows(self.record.store, [trial for trial in trials if trial["id"] not in self._ended_rows])
        rows = {**self._ended_rows, **{row["id"]: row for row in fresh}}
        self._ended_rows |= {row["id"]: row for row in fresh if row["state"] in OVER and row["id"] not in due}
        return [rows[trial["id"]] for trial in trials]

    def _finish(self, error: Document | None) -> int:
        rows = self._write_progress()
        best = best_of(rows, self.spec.metric, self.spec.mode)
        failed = [row for row in rows if row["state"] == "failed"]
        unended = [row for row in rows if row["state"] not in OVER and row["state"] != "cancelled"]
        if self._why is None and unended and self._stop_wanted():
            # No trial begins once that is asked for: Tune may come to its end before the watch has seen it.
            self._why = "cancelled"
        if self._why != "cancelled" and error is None and unended:
            which = f"{len(unended)} of {len(rows)} trials did not end, {unended[0]['id']} among them"
            error = InfrastructureFailure(f"{which}: see its log, and go on with --resume.").document()
        elif self._why != "cancelled" and error is None and rows and len(failed) == len(rows):
            # What is not the trials' own fault is worth another try, as the exit code says.
            first = min(failed, key=lambda row: (row["error"] or {}).get("kind", UserFailure.kind) == UserFailure.kind)
            reason = first["error"] or {}
            which = "the first" if first is failed[0] else first["id"]
            message = f"All {len(rows)} trials failed, {which} by: {reason.get('message')}"
            error = {
                **UserFailure(message).document(),
                **{name: reason[name] for name in ("kind", "exit_code") if reason.get(name)},
            }
        outcome = Outcome.failed(error) if error else Outcome.succeeded()
        if self._why == "cancelled":
            outcome = Outcome.cancelled()
        result, code = outcome.state, outcome.exit_code
        metrics = {self.spec.metric: best["mean"]} if best else {}
        attempt = self.state["attempts"][-1]
        attempt |= {"finished": time.time(), "reason": error["message"] if error else result}
        self.state |= {"state": result, "finished": time.time(), "metrics": metrics, "error": error, "exit_code": code}
        interrupted = result == "cancelled" and self.stops.by_system and not self.record.person_cancelled()
        # A person's request that comes as the system stops this driver is the next one's.
        self.state |= self.record.handled_cancel(self.state, *((SIGNAL,) if interrupted else ()))
        if interrupted:
            result, code = "retrying", InfrastructureFailure.exit_code
            self.state |= {"state": result, "reason": SIGNAL, "finished": None, "exit_code": None}
            attempt["reason"] = SIGNAL
        counts = ", ".join(f"{count} {name}" for name, count in sorted(counts_of(rows).items())) or "no trials"
        if len(rows) < self._trial_table.total < UNBOUNDED:
            counts += f"; {self._trial_table.total - len(rows)} were not begun"
        if result == "retrying":
            self._event("interrupted", f"the system stopped the driver: any submission of this sweep goes on with it ({counts})")
        else:
            self._event("ended", f"the sweep ended: {result} ({counts})", state=result)
        self._save()
        return code
