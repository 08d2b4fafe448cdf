"""The trials of a sweep as the store knows them: how each stands, the best point, the spread over seeds."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from service.records.answers import TrialRow
from service.records.lease import lease_in, lease_is_live
from service.records.remarks import remarks_among
from service.records.run_record import RunRecord, queued
from service.records.schemas import ENDED, ProgressDocument, RunState, StateDocument
from service.records.stored_document import read_document
from service.records.sweep_schemas import Best, PointRow, TableRow, Trial
from service.specs.sweep import SweepSpec
from service.storage.base import Seen, Store
from service.storage.paths import RunPaths
from service.sweeps.points import Points

STOPPED = "stopped"
"""Of a trial that the sweep ended early: by its scheduler, or when its budget was used up. The run itself is `cancelled`."""
BUDGET = "budget"
"""Who stopped a trial, if not a scheduler."""
PAUSED = "paused"
"""Of a trial that waits for its turn while the sweep is under way. The run itself is `cancelled` until then."""
OVER = frozenset({*ENDED, STOPPED}) - {RunState.CANCELLED}
"""States in which a trial is not resumed when its sweep is; but see `goes_further`."""


def trial_rows(store: Store, trials: Sequence[Trial]) -> list[TrialRow]:
    """How each trial stands, in the sweep's order."""
    paths = [RunPaths(trial.id) for trial in trials]
    documents = store.read_many([path.state for path in paths])
    states = [_state(documents, path) for path in paths]
    rest = [path for path, state in zip(paths, states, strict=True) if state is None or not state.is_ended]
    seen = store.read_many_aged([key for path in rest for key in (path.lease, path.progress)])
    return [_row(*each, seen) for each in zip(trials, paths, states, strict=True)]


def _row(trial: Trial, path: RunPaths, found: StateDocument | None, seen: dict[str, Seen]) -> TrialRow:
    progress = ProgressDocument()
    if path.progress in seen:
        progress = read_document(ProgressDocument, seen[path.progress].data, path.progress)
    state = found or queued()
    name: str = state.state
    if name in (RunState.CANCELLED, RunState.QUEUED) and trial.stopped:
        name = STOPPED
    elif name == RunState.CANCELLED and trial.pauses:
        name = PAUSED
    elif not state.is_ended and found is not None and not lease_is_live(lease_in(seen.get(path.lease), path.lease)):
        name = RunState.LOST
    ended = name in (*ENDED, STOPPED, PAUSED)
    position = state.position or progress
    return TrialRow.model_validate(
        {
            **{field: getattr(trial, field) for field in trial.model_fields_set},
            "state": name,
            "metrics": (state.metrics if ended else None) or progress.metrics,
            "attempts": state.attempts_with(ProgressDocument()),
            "epoch": position.epoch,
            "epochs": position.epochs,
            "step": position.step,
            "steps": position.steps,
            "started": state.started,
            "finished": state.finished,
            "error": state.error,
        }
    )


def _state(documents: dict[str, bytes], path: RunPaths) -> StateDocument | None:
    return read_document(StateDocument, documents[path.state], path.state) if path.state in documents else None


def point_rows(rows: Sequence[TrialRow], metric: str, mode: str) -> list[PointRow]:
    """The sweep's points, best first; those of which no trial has the metric come last, with `mean` None."""
    points: dict[int, list[TrialRow]] = {}
    for row in rows:
        points.setdefault(row.point, []).append(row)
    made = [_point(members, metric) for members in points.values()]
    sign = -1.0 if mode == "max" else 1.0
    return sorted(made, key=lambda row: (row.mean is None, sign * (row.mean or 0.0), row.point))


def _point(members: list[TrialRow], metric: str) -> PointRow:
    found = [value for row in members if (value := value_of(row, metric)) is not None]
    return PointRow(
        point=members[0].point,
        base=members[0].base,
        params=members[0].params,
        mean=statistics.fmean(found) if found else None,
        spread=statistics.stdev(found) if len(found) > 1 else None,
        count=len(found),
        trials=tuple(row.id for row in members),
        states=tuple(row.state for row in members),
    )


def value_of(row: TrialRow, metric: str) -> float | None:
    """A trial's metric, unless it failed or has none."""
    value = row.metrics.get(metric)
    good = isinstance(value, int | float) and math.isfinite(value) and row.state != RunState.FAILED
    return float(value) if good and isinstance(value, int | float) else None


def best_of(rows: Sequence[TrialRow], metric: str, mode: str) -> Best | None:
    """The best point among those whose trials all came to their end, or, before there is any, of all; None without a metric."""
    points = [point for point in point_rows(rows, metric, mode) if point.mean is not None]
    whole = [point for point in points if all(state == RunState.SUCCEEDED for state in point.states)]
    if not points:
        return None
    best = (whole or points)[0]
    members = [row for row in rows if row.id in best.trials and value_of(row, metric) is not None]
    choose = max if mode == "max" else min
    trial = choose(members, key=lambda row: value_of(row, metric) or 0.0).id
    return Best.model_validate({**best.document(), "metric": metric, "trial": trial})


def counts_of(rows: Sequence[TrialRow]) -> dict[str, int]:
    """How many trials are in each state."""
    found: dict[str, int] = {}
    for row in rows:
        found[row.state] = found.get(row.state, 0) + 1
    return found


def seconds_left(rows: Sequence[TrialRow], total: int | None, used: float, budget: float | None) -> float | None:
    """How long a sweep of `total` trials that took `used` seconds will still take; no longer than its budget; None if unknown.

    Trials under way count by the steps that they have done.
    """
    limits = [max(0.0, budget - used)] if budget is not None else []
    done = sum(1.0 if row.state in OVER else _share_done(row) for row in rows)
    if total is not None and done:
        limits.append(used / done * max(0.0, total - done))
    return min(limits, default=None)


def _share_done(row: TrialRow) -> float:
    return min(1.0, (row.step or 0) / row.steps) if row.steps else 0.0


def goes_further(record: RunRecord, sweep: SweepSpec) -> bool:
    """Whether a sweep that came to its end has more to do by this spec, and time for it.

    That is points that were not begun, and trials that were lost or that the budget stopped.
    """
    if sweep.budget is not None and (record.state().used_seconds or 0.0) >= sweep.budget:
        return False
    trials = record.trials()
    # Numbers may be left out: values that make no spec together.
    begun = max((trial.point + 1 for trial in trials), default=0)
    return begun < Points(sweep).count or any(map(_has_more_to_do, trial_rows(record.store, trials)))


def _has_more_to_do(row: TrialRow) -> bool:
    by_budget = row.state == STOPPED and row.stopped is not None and row.stopped.by == BUDGET
    return by_budget or row.was_lost or row.state not in OVER


def table(rows: Sequence[TrialRow], metric: str, mode: str, most: int = 50) -> list[TableRow]:
    """The trials for a table that lives: best first, then those that have no figure yet, the newest first; at most `most`."""
    sign = -1.0 if mode == "max" else 1.0

    def place(row: TrialRow) -> tuple[bool, float, int]:
        value = value_of(row, metric)
        return (value is None, 0.0 if value is None else sign * value, -row.number)

    return [
        TableRow(
            id=row.id,
            base=row.base,
            params=row.params,
            seed=row.seed,
            state=row.state,
            epoch=row.epoch,
            epochs=row.epochs,
            step=row.step,
            steps=row.steps,
            value=value_of(row, metric),
            stopped=row.stopped,
            mutations=len(row.mutations),
        )
        for row in sorted(rows, key=place)[:most]
    ]


@dataclass(frozen=True)
class SweepResults:
    """What `runs show` adds for a sweep; `remarks` on the model of the best trial, or of the first while there is none."""

    trials: list[TrialRow]
    best: Best | None
    remarks: list[str]


def results_of(record: RunRecord, metric: str, mode: str) -> SweepResults:
    """How a sweep's trials stand."""
    rows = trial_rows(record.store, record.trials())
    best = best_of(rows, metric, mode)
    looked_at = best.trial if best else rows[0].id if rows else None
    remarks = remarks_among(RunRecord(record.store, looked_at).events()) if looked_at else []
    return SweepResults(rows, best, remarks)
