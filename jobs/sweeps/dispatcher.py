"""What Ray Tune asks of a sweep: which trial is next, what came of one, what another one copies. One lock around it all."""

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import asdict
from typing import Protocol

from jobs.sweeps.trial_order import TrialOrder
from jobs.sweeps.trial_table import TrialTable
from service.errors import StoreError
from service.records.cancel_requests import SWEEP
from service.records.run_record import Document, RunRecord
from service.records.schemas import RunState
from service.records.sweep_schemas import Params, Stopped, Trial
from service.settings import Settings
from service.specs.sweep import SweepSpec
from service.sweeps.trials import BUDGET, OVER, trial_rows, value_of

CANCELLED = "cancelled"
"""Why no more trials begin: a person or the system has stopped the sweep; the other reason is BUDGET."""


class Tell(Protocol):
    """Says a line and keeps it among the sweep's events."""

    def __call__(self, event: str, message: str, **details: object) -> None: ...


class TrialDispatcher:
    """Hands the trials of a table out to Tune, one or a group at a time, and takes what became of them.

    Tune calls it from the driver's main thread, the watch from its own.
    """

    def __init__(self, record: RunRecord, spec: SweepSpec, settings: Settings, folder: str, tell: Tell) -> None:
        self.table = TrialTable(record, spec, lambda message: tell("left out", message))
        self.share = 1
        """How many trials may train together in one process."""
        self.stopped_by: str | None = None
        """Why no more trials begin: CANCELLED, BUDGET, or None while they do."""
        self._record = record
        self._spec = spec
        self._settings = settings
        self._folder = folder
        self._tell = tell
        self._handed_out: set[str] = set()
        """The trials that Tune has, by id."""
        self._together: dict[str, list[str]] = {}
        """By the trial that Tune knows: the others that train together with it."""
        self._lock = threading.RLock()

    def take(self) -> Document | None:
        """The order of the next trial for Tune, and of those that train together with it; None once no more begin."""
        with self._lock:
            trials = self.table.take_group(self.share) if self.stopped_by is None else []
            if not trials:
                return None
            first, *others = (trial.id for trial in trials)
            self._handed_out |= {first, *others}
            self._together[first] = others
            if others:
                self._tell("together", f"{first} and {len(others)} other trials train together", trials=[first, *others])
            return self._order(trials[0], others)

    def params(self, run_id: str) -> Params:
        """The values with which a trial trains now."""
        with self._lock:
            return self.table.find(run_id).params

    def mutate(self, run_id: str, donor: str, step: int, params: Document) -> Document:
        """Note that a trial copies another one's weights of `step` and trains on with `params`, or what is allowed of them; its order."""
        with self._lock:
            trial = self.table.mutate(self.table.find(run_id), self.table.find(donor), step, params)
        values = ", ".join(f"{key} {value:.4g}" for key, value in trial.params.items())
        self._tell("took over", f"{run_id} takes over from {donor} at step {step} and resumes with {values}", trial=run_id)
        return self._order(trial)

    def note_taken(self, run_id: str, result: Document) -> None:
        """Note that a trial trains again, and which checkpoint it took over, as it reports."""
        with self._lock:
            self.table.note_turn(self.table.find(run_id))
            if "taken" in result:
                self.table.note_taken(self.table.find(run_id), result["mutation"], result["taken"])

    def pause(self, run_id: str) -> None:
        """Let a trial save and give its process to another one."""
        with self._lock, contextlib.suppress(StoreError):
            if self.stopped_by is None:
                self.table.note_pause(self.table.find(run_id))
            RunRecord(self._record.store, run_id).request_cancel(SWEEP)

    def ended(self, run_id: str, result: Document | None) -> None:
        """Take a trial's end from Tune: its last result, in which `over` is missing where the scheduler stopped it; None for none."""
        with self._lock:
            others = self._together.pop(run_id, [])
            self._handed_out -= {run_id, *others}
            self.note_taken(run_id, result or {})
            trial = self.table.find(run_id)
            if result is not None and not result.get("over"):
                self._stop_early(trial, result)
            elif result is not None and others:
                self._note_group([trial, *map(self.table.find, others)])
            elif result is not None:
                self.table.note_value(trial, result.get(self._spec.metric))

    def stop(self, why: str) -> None:
        """Begin no more trials and let those under way save and stop; raise StoreError, after which it is to be called again."""
        with self._lock:
            self.table.end_pauses()
            if why == BUDGET:
                unended = {run.run_id for run in self._under_way()} | self.table.due
                stopped = [trial for trial in self.table.trials if trial.id in unended]
                self.table.note_stop(stopped, Stopped(by=BUDGET, message="the sweep's budget was used up"))
                self._record.request_cancel(reason=BUDGET)
                self._tell("budget", f"the budget of {self._spec.budget:g} s is used up: trials under way are stopped")
            # Last: where the store refused any of it, the next call does it all.
            self.stopped_by = why
            self.ask_to_stop()

    def ask_to_stop(self) -> None:
        """Ask the trials under way to save and stop, those that began meanwhile too; raise StoreError."""
        for run in self._under_way():
            if not run.cancel_requested():
                run.request_cancel(SWEEP)

    def snapshot(self) -> tuple[list[Trial], set[str]]:
        """All trials, and the ids of those that Tune has or that wait for it."""
        with self._lock:
            return list(self.table.trials), self._handed_out | self.table.due

    def _under_way(self) -> list[RunRecord]:
        """The runs that processes have and that are not over: those of a group end one by one."""
        runs = [RunRecord(self._record.store, run_id) for run_id in sorted(self._handed_out)]
        return [run for run in runs if run.state().state not in OVER]

    def _order(self, trial: Trial, others: Sequence[str] = ()) -> Document:
        order = TrialOrder(
            id=trial.id,
            sweep=self._record.run_id,
            store=self._record.store.url,
            folder=self._folder,
            metric=self._spec.metric,
            by_evaluation=self._spec.scheduler.name != "none",
            from_history=self._spec.scheduler.learns_again,
            over=trial.id in self.table.over,
            mutation=self.table.mutation(trial),
            distributed=self._spec.workers != (1, 1),
            local=self._settings.ray_address in (None, "local"),
            environment=self._settings.for_processes(),
            others=tuple(others),
        )
        return asdict(order)

    def _note_group(self, trials: list[Trial]) -> None:
        """Note the results of trials that trained together, which are in the store."""
        for trial, row in zip(trials, trial_rows(self._record.store, trials), strict=True):
            self.table.note_value(trial, value_of(row, self._spec.metric))

    def _stop_early(self, trial: Trial, result: Document) -> None:
        record, policy = RunRecord(self._record.store, trial.id), self._spec.scheduler
        value = result.get(self._spec.metric)
        shown = f"{self._spec.metric} {value:.4f}" if isinstance(value, float) else self._spec.metric
        why = f"{policy.name}: after {result.get('evaluation')} evaluations {shown} was not among the best"
        self.table.note_value(trial, value)
        if trial.stopped is None and record.state().state not in (RunState.SUCCEEDED, RunState.FAILED):
            self.table.note_stop([trial], Stopped(by=policy.name, evaluation=result.get("evaluation"), message=why))
            with contextlib.suppress(StoreError):
                record.request_cancel(SWEEP)
            self._tell("stopped", f"{trial.id} stopped early by {why}", trial=trial.id)
