"""Drives one sweep: Ray Tune schedules its trials, each a run in the store, which is what a sweep is gone on with from."""

import contextlib
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jobs.driver_notes import DriverNotes, error_document
from jobs.heartbeat import Heartbeat
from jobs.progress import EventLog
from jobs.tune_run import Capacity, connect, disconnect, run_trials
from jobs.worker_group import kill_local_ray, local_ray_lives
from service.errors import DelaylineError, InvalidInput, StoreError
from service.names import trial_id
from service.settings import Settings
from service.specs import TrainSpec
from service.storage.records import Document, Lease, RunRecord, run_summary
from service.sweep_points import Point, Points
from service.sweep_specs import SweepSpec
from service.trials import OVER, best_of, counts_of, table, trial_rows, value_of

LOOK_SECONDS = 0.5
PROGRESS_SECONDS = 2.0
"""Between looks at all trials for the sweep's own progress (assumed: as often as a person looks)."""


@dataclass
class SweepDriver(DriverNotes):
    """One process that drives one sweep under its lease."""

    record: RunRecord
    spec: SweepSpec
    settings: Settings
    lease: Lease
    folder: str
    say: Callable[[str], None]
    state: Document = field(default_factory=dict)
    _trials: list[Document] = field(default_factory=list)
    _waiting: list[Document] = field(default_factory=list)
    """Trials that an earlier driver began and did not end, to be handed out first."""
    _values: dict[int, list[float | None]] = field(default_factory=dict)
    """By point: the metric of each of its trials that ended."""
    _ended_rows: dict[str, Document] = field(default_factory=dict)
    _live: set[str] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _over: threading.Event = field(default_factory=threading.Event)
    _why: str | None = None
    """Why no more trials begin: `cancelled`, `budget`, or None."""
    _events: EventLog | None = None

    def run(self) -> int:
        """Run trials until all that can end have ended; return the exit code. The final state is in the store by then."""
        from jobs.sweep_search import Proposer

        self._take_over()
        heartbeat = Heartbeat(self.lease, self.say)
        self._proposer = Proposer(self.spec)
        self._points = Points(self.spec)
        try:
            error = self._run_trials()
            self._over.set()
            disconnect()
            code = self._finish(error)
            heartbeat.release()
        finally:
            self._over.set()
            heartbeat.stop()
        self._report()
        return code

    def _take_over(self) -> None:
        previous = self.record.state()
        attempts = previous["attempts"]
        for attempt in attempts:
            if attempt.get("finished") is None:
                attempt |= {"finished": time.time(), "reason": "the driver was lost"}
        number = len(attempts) + 1
        attempts.append({"number": number, "workers": [], "started": time.time(), "finished": None, "reason": None})
        self._events = EventLog(self.record, number, "driver")
        self.state = {
            "state": "starting",
            "attempts": attempts,
            "attempt": number,
            "started": previous.get("started") or time.time(),
            "used_seconds": previous.get("used_seconds", 0.0),
            "finished": None,
            "metrics": {},
            "error": None,
            "summary": run_summary(self.record.submission()),
        }
        self.record.clear_cancel()
        self._save()

    def _run_trials(self) -> Document | None:
        """Run Tune to its end; the error that ended it, or None."""
        try:
            self._recall()
            first = self._trial_spec(Point(**self._first()))
            capacity = connect(self.settings, self.spec, first)
            self._event("running", f"{capacity.parallel} trials run side by side", parallel=capacity.parallel)
            self.state["state"] = "running"
            self._save()
            threading.Thread(target=self._watch, name="watch", daemon=True).start()
            self._tune(capacity, first)
        except DelaylineError as error:
            return error_document("infrastructure", error.exit_code, str(error))
        return None

    def _tune(self, capacity: Capacity, first: TrainSpec) -> None:
        scratch = Path(tempfile.mkdtemp(prefix="delayline-tune-"))
        try:
            run_trials(self.spec, first, capacity, self._take, self._ended, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _first(self) -> Document:
        return asdict(self._points.point(0)) if self.spec.search != "tpe" else asdict(next(self._points.corners()))

    def _recall(self) -> None:
        """Take up what earlier drivers of this sweep began."""
        self._trials = self.record.trials()
        rows, over = trial_rows(self.record.store, self._trials), 0
        for trial, row in zip(self._trials, rows, strict=True):
            point = Point(int(trial["point"]), str(trial["base"]), trial["params"])
            self._proposer.known(point)
            lost = row["state"] == "failed" and (row["error"] or {}).get("kind") == "infrastructure"
            if row["state"] in OVER and not lost:
                over += 1
                self._note_value(trial, value_of(row, self.spec.metric))
                if self.spec.scheduler.name != "none":
                    # The scheduler hears once more of all that was reported; the run itself is not touched.
                    self._waiting.insert(0, trial)
            else:
                self._waiting.append(trial)
        # A point whose driver was killed between its seeds.
        for number in sorted({int(trial["point"]) for trial in self._trials}):
            members = [trial for trial in self._trials if trial["point"] == number]
            missing = set(range(self.spec.seeds)) - {int(trial["seed"]) for trial in members}
            self._waiting += [
                self._add(Point(number, members[0]["base"], members[0]["params"]), seed) for seed in sorted(missing)
            ]
        if self._trials:
            self.record.write_trials(self._trials)
            left, known = len(self._trials) - over, len(self._trials)
            self._event("resumed", f"goes on with {left} of {known} trials; {over} are over", trials=known)

    def _take(self) -> Document | None:
        """The order of the next trial for Tune, or None when there is none any more."""
        with self._lock:
            if self._why is not None:
                return None
            if not self._waiting and not self._propose():
                return None
            trial = self._waiting.pop(0)
            self._live.add(trial["id"])
            return self._order(trial)

    def _propose(self) -> bool:
        """Add the trials of another point, one for each seed; whether there was another."""
        point = self._proposer.propose()
        if point is None:
            return False
        self._waiting += [self._add(point, seed) for seed in range(self.spec.seeds)]
        self.record.write_trials(self._trials)
        return True

    def _add(self, point: Point, seed: int) -> Document:
        """Claim the run of a trial and note it."""
        number = len(self._trials)
        trial: Document = {"id": trial_id(self.record.run_id, number), "number": number, **_document(point), "seed": seed}
        spec = self._points.spec(point, seed)
        self._claim(RunRecord(self.record.store, trial["id"]), spec, self._origin(trial, spec))
        self._trials.append(trial)
        return trial

    def _claim(self, run: RunRecord, spec: TrainSpec, origin: Document) -> None:
        """Make the trial's run; one that a driver claimed which was killed before it noted the trial gets this spec.

        Raise InvalidInput where the id belongs to a run of its own.
        """
        if run.claim(spec, origin):
            return
        submission = run.submission()
        if submission.get("sweep") != self.record.run_id:
            raise InvalidInput(
                f"The id {run.run_id!r} of the next trial belongs to a run that is no trial of this sweep: "
                f"sweep under another --name, or delete that run."
            )
        if submission["spec"] != spec.document():
            run.replace_spec(spec, origin)

    def _origin(self, trial: Document, spec: TrainSpec) -> Document:
        submission = self.record.submission()
        kept = {name: submission.get(name) for name in ("recipe", "command", "folder")}
        versions = {"dataset_version": submission.get("dataset_version")} if spec.dataset == self._dataset else {}
        return {**kept, **versions, "sweep": self.record.run_id, "point": trial["point"], "params": trial["params"]}

    @property
    def _dataset(self) -> str:
        return str(self.spec.base[0].values.get("dataset"))

    def _trial_spec(self, point: Point) -> TrainSpec:
        return self._points.spec(point)

    def _order(self, trial: Document) -> Document:
        return {
            "id": trial["id"],
            "sweep": self.record.run_id,
            "store": self.record.store.url,
            "folder": self.folder,
            "metric": self.spec.metric,
            "by_evaluation": self.spec.scheduler.name != "none",
            "distributed": self.spec.workers != (1, 1),
            "local": self.settings.ray_address in (None, "local"),
            "environment": self.settings.for_processes(),
        }

    def _ended(self, run_id: str, result: Document | None) -> None:
        """A trial's end, as Tune tells it; without `over` the scheduler stopped it."""
        with self._lock:
            self._live.discard(run_id)
            trial = next(trial for trial in self._trials if trial["id"] == run_id)
            if result is not None and not result.get("over"):
                self._stop_early(trial, result)
            elif result is not None:
                self._note_value(trial, result.get(self.spec.metric))

    def _stop_early(self, trial: Document, result: Document) -> None:
        record, policy = RunRecord(self.record.store, trial["id"]), self.spec.scheduler
        value = result.get(self.spec.metric)
        shown = f"{self.spec.metric} {value:.4f}" if isinstance(value, float) else self.spec.metric
        why = f"{policy.name}: after {result.get('evaluation')} evaluations {shown} was not among the best"
        self._note_value(trial, value)
        if "stopped" not in trial and record.state()["state"] not in ("succeeded", "failed"):
            trial["stopped"] = {"by": policy.name, "evaluation": result.get("evaluation"), "message": why}
            self.record.write_trials(self._trials)
            with contextlib.suppress(StoreError):
                record.request_cancel()
            self._event("stopped", f"{trial['id']} stopped early by {why}", trial=trial["id"])

    def _note_value(self, trial: Document, value: Any) -> None:
        values = self._values.setdefault(int(trial["point"]), [])
        values.append(float(value) if isinstance(value, int | float) else None)
        if len(values) == self.spec.seeds:
            point = Point(int(trial["point"]), trial["base"], trial["params"])
            self._proposer.tell(point, [each for each in values if each is not None])

    def _watch(self) -> None:
        """Notice a request to stop and the end of the budget; write the sweep's progress."""
        began, used, told = time.monotonic(), float(self.state["used_seconds"]), 0.0
        while not self._over.wait(LOOK_SECONDS):
            self.state["used_seconds"] = used + time.monotonic() - began
            with contextlib.suppress(StoreError):
                if self._why is None and self.record.cancel_requested():
                    self._stop_all("cancelled")
                elif self._why is None and self.spec.budget is not None and self.state["used_seconds"] > self.spec.budget:
                    self._stop_all("budget")
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
        self._replace_process("jobs.sweep", self.spec.document())

    def _stop_all(self, why: str) -> None:
        """Begin no more trials and let those under way save and stop."""
        with self._lock:
            self._why = why
            if why == "budget":
                self._event("budget", f"the budget of {self.spec.budget:g} s is used up: trials under way are stopped")
                # Among those that wait may be some that are over, for the scheduler to hear of again.
                unended = self._live | {trial["id"] for trial in self._waiting if trial["id"] not in self._ended_rows}
                for trial in self._trials:
                    if trial["id"] in unended and "stopped" not in trial:
                        trial["stopped"] = {"by": "budget", "message": "the sweep's budget was used up"}
                self.record.write_trials(self._trials)
                self.record.request_cancel()
            self._ask_live_ones()

    def _ask_live_ones(self) -> None:
        for run_id in sorted(self._live):
            record = RunRecord(self.record.store, run_id)
            if not record.cancel_requested():
                record.request_cancel()

    def _write_progress(self) -> list[Document]:
        rows = self._rows()
        total = self._points.count * self.spec.seeds
        best = best_of(rows, self.spec.metric, self.spec.mode)
        self.record.write_progress(
            {
                "attempt": self.state["attempt"],
                "phase": "running",
                "trials": counts_of(rows),
                "total": total if total < 10**9 else None,
                "used_seconds": self.state["used_seconds"],
                "best": best,
                "table": table(rows, self.spec.metric, self.spec.mode),
                "metrics": {self.spec.metric: best["mean"]} if best else {},
            }
        )
        return rows

    def _rows(self) -> list[Document]:
        """All trials as they stand; those that are over are read once."""
        with self._lock:
            trials = list(self._trials)
        fresh = trial_rows(self.record.store, [trial for trial in trials if trial["id"] not in self._ended_rows])
        rows = {**self._ended_rows, **{row["id"]: row for row in fresh}}
        self._ended_rows |= {row["id"]: row for row in fresh if row["state"] in OVER}
        return [rows[trial["id"]] for trial in trials]

    def _finish(self, error: Document | None) -> int:
        rows = self._write_progress()
        best = best_of(rows, self.spec.metric, self.spec.mode)
        failed = [row for row in rows if row["state"] == "failed"]
        unended = [row for row in rows if row["state"] not in OVER and row["state"] != "cancelled"]
        result, code = "succeeded", 0
        if self._why == "cancelled":
            result, code = "cancelled", 130
        elif error is None and unended:
            which = f"{len(unended)} of {len(rows)} trials did not end, {unended[0]['id']} among them"
            error = error_document("infrastructure", 4, f"{which}: see its log, and go on with --resume.")
        elif error is None and rows and len(failed) == len(rows):
            reason = str((failed[0]["error"] or {}).get("message"))
            error = error_document("user", 3, f"All {len(rows)} trials failed, the first by: {reason}")
        if error is not None and result == "succeeded":
            result, code = "failed", int(error["exit_code"])
        metrics = {self.spec.metric: best["mean"]} if best else {}
        attempt = self.state["attempts"][-1]
        attempt |= {"finished": time.time(), "reason": error["message"] if error else result}
        self.state |= {"state": result, "finished": time.time(), "metrics": metrics, "error": error, "exit_code": code}
        counts = ", ".join(f"{count} {name}" for name, count in sorted(counts_of(rows).items()))
        self._event("ended", f"the sweep ended: {result} ({counts or 'no trials'})", state=result)
        self.record.clear_cancel()
        self._save()
        return code


def _document(point: Point) -> Document:
    return {"point": point.number, "base": point.base, "params": json.loads(json.dumps(point.params))}
