"""What the store holds of a sweep, read for its report."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from jobs.reports.facts import RunFacts, manifest
from service.errors import UnknownName
from service.records.answers import TrialRow
from service.records.run_record import Document, RunRecord, from_bytes
from service.records.schemas import ProgressDocument, Row, RunState
from service.records.standing import standing_of
from service.records.stored_document import read_document
from service.records.sweep_schemas import Best, PointRow
from service.specs.sweep import SweepSpec
from service.storage.base import Store
from service.storage.paths import MODEL_FACTS, RunPaths
from service.sweeps.trials import best_of, counts_of, point_rows, trial_rows, value_of

MOST_ROWS = 200
"""Of the table of trials (assumed: more is no longer read, and the store is asked for the progress of each)."""
MOST_CURVES = 40
"""Of the figure of curves (assumed: more hide each other, and the store is asked for the history of each)."""
READERS = 8


@dataclass(frozen=True)
class Curve:
    """One trial's rows of metrics; `unit`: the steps of its epoch, `chance`: the accuracy of guesses; None where that is not known."""

    trial: TrialRow
    history: list[Row]
    unit: int | None
    chance: float | None = None


@dataclass(frozen=True)
class SweepFacts:
    """The documents of one sweep and of its trials."""

    run: RunFacts
    """The sweep's own submission, state and events."""
    sweep: SweepSpec
    trials: list[TrialRow]
    """As `trial_rows` tells them, best first, those without a figure last."""
    points: list[PointRow]
    """As `point_rows` tells them, best first."""
    best: Best | None
    best_run: RunFacts | None = None
    """The best trial's submission, state and dataset; None without one, or where it was deleted."""
    curves: list[Curve] = field(default_factory=list)
    """Of the trials that are drawn, best first."""
    chance: float | None = None
    """The accuracy of guesses, where the metric is an accuracy and the task knows it."""
    rows: int = MOST_ROWS
    """How many trials the table has."""

    @property
    def metric(self) -> str:
        return self.sweep.metric

    @property
    def counts(self) -> dict[str, int]:
        """How many trials are in each state."""
        return counts_of(self.trials)

    @property
    def shown(self) -> list[TrialRow]:
        """The trials of the table."""
        return self.trials[: self.rows]

    def value(self, trial: TrialRow) -> float | None:
        """A trial's metric, unless it failed or has none."""
        return value_of(trial, self.metric)


def gather_sweep(record: RunRecord) -> SweepFacts:
    """Read all that a sweep's report shows; raise UnknownName or InvalidInput."""
    sweep = record.sweep_spec()
    rows = best_first(trial_rows(record.store, record.trials()), sweep)
    best = best_of(rows, sweep.metric, sweep.mode)
    curves = _curves(record.store, drawn_trials(rows, sweep.metric))
    chances = {curve.chance for curve in curves}
    facts = SweepFacts(
        run=_brief(record, {}),
        sweep=sweep,
        trials=rows,
        points=point_rows(rows, sweep.metric, sweep.mode),
        best=best,
        best_run=_best_run(record.store, best.trial) if best else None,
        curves=curves,
        chance=chances.pop() if len(chances) == 1 and sweep.metric.endswith("accuracy") else None,
    )
    shown = _with_progress(record.store, facts.shown)
    return replace(facts, trials=[*shown, *rows[len(shown) :]])


def best_first(rows: list[TrialRow], sweep: SweepSpec) -> list[TrialRow]:
    """Trials by their metric, then those without one, failed ones last, each kind in the order of their begin."""
    sign = -1.0 if sweep.mode == "max" else 1.0

    def place(row: TrialRow) -> tuple[bool, bool, float, int]:
        value = value_of(row, sweep.metric)
        return (value is None, row.state == RunState.FAILED, sign * (value or 0.0), row.number)

    return sorted(rows, key=place)


def drawn_trials(rows: list[TrialRow], metric: str) -> list[TrialRow]:
    """Of many trials the best quarter of MOST_CURVES and of the others every so many; `rows` stand best first."""
    having = [row for row in rows if value_of(row, metric) is not None]
    if len(having) <= MOST_CURVES:
        return having
    top, last = MOST_CURVES // 4, len(having) - 1
    others = MOST_CURVES - top
    return [*having[:top], *(having[round(top + (last - top) * index / (others - 1))] for index in range(others))]


def _brief(record: RunRecord, data: Document) -> RunFacts:
    submission, state = record.submission(), record.state()
    return RunFacts(
        run_id=record.run_id,
        store=record.store.url,
        submission=submission,
        state=state,
        standing=standing_of(record, state),
        progress=record.progress(),
        history=[],
        events=record.events(),
        data=data,
        made=time.time(),
        note=record.note(),
    )


def _best_run(store: Store, run_id: str) -> RunFacts | None:
    record = RunRecord(store, run_id)
    try:
        return _brief(record, manifest(record, record.submission()))
    except UnknownName:
        return None


def _curves(store: Store, trials: list[TrialRow]) -> list[Curve]:
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(lambda trial: _rows_and_model(RunRecord(store, trial.id)), trials))
    curves = []
    for trial, (rows, model) in zip(trials, found, strict=True):
        unit = (model.get("counts") or {}).get("steps_per_epoch")
        curves.append(Curve(trial, rows, int(unit) if unit else None, model.get("chance")))
    return [curve for curve in curves if curve.history]


def _rows_and_model(record: RunRecord) -> tuple[list[Row], Document]:
    key = record.analysis().get(MODEL_FACTS)
    return record.history(), from_bytes(record.store.read(key), key) if key else {}


def _with_progress(store: Store, trials: list[TrialRow]) -> list[TrialRow]:
    """How far trials came that have ended: their rows tell it of the others alone."""
    keys = {trial.id: RunPaths(trial.id).progress for trial in trials if trial.epoch is None}
    found = store.read_many(list(keys.values()))
    progress = {key: read_document(ProgressDocument, data, key) for key, data in found.items()}
    return [
        trial.changed(**dict(progress[keys[trial.id]].position)) if keys.get(trial.id) in progress else trial for trial in trials
    ]
