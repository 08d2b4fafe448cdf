"""The parts of a sweep's page that are text: headline, tiles, tables, importance."""

import statistics
from collections.abc import Sequence
from typing import Any

from jobs.reports.memory import given
from jobs.reports.sweep.axes import Dimension, labels, shown
from jobs.reports.sweep.facts import SweepFacts
from jobs.reports.sweep.importance import Importance, importance
from jobs.reports.words import duration, figure, listed, metric, percent, plural, short
from jobs.training.early_stopping import stop_reason
from service.records.answers import TrialRow
from service.records.run_record import Document
from service.records.schemas import Failure, RunState
from service.records.sweep_schemas import PointRow
from service.sweeps.points import Point, Points
from service.sweeps.trials import STOPPED

MOST_POINTS = 12
"""Of the table of points (assumed: the rest is not what one looks for)."""
MOST_REASONS = 12
MOST_CHANGES = 12
"""Of the best trial's values, the last ones."""
MOST_COLUMNS = 4
"""Things that varied with a column each in the tables; more stand in one."""
_OTHER = ("test_accuracy", "test_loss", "val_accuracy", "val_loss")


def headline(facts: SweepFacts, dimensions: Sequence[Dimension]) -> str:
    """What was swept, how the trials stand, and the best point, in a few sentences."""
    trials, seeds = len(facts.trials), facts.sweep.seeds
    ranges = [_range(facts, each) for each in dimensions if each.kind != "expression"]
    # Before two trials differ the space says what will vary.
    over = listed(ranges or labels(list(facts.sweep.space)).values())
    repeated = f", each point with {plural(seeds, 'seed')}" if seeds > 1 else ""
    remark = given(facts.best_run) if facts.best_run else ""
    return f"Swept {over}{repeated}: {_standing(facts, trials)}. {_best(facts, dimensions)} {remark}".rstrip()


def _range(facts: SweepFacts, dimension: Dimension) -> str:
    parameter = facts.sweep.space[dimension.key] if dimension.key is not None else None
    drawn = parameter and (parameter.uniform or parameter.loguniform or parameter.integers)
    if drawn:
        return f"{dimension.label} ({shown(drawn[0])} to {shown(drawn[1])})"
    values = dimension.values
    if dimension.numeric and len(values) > 3:
        return f"{dimension.label} ({plural(len(values), 'value')} from {shown(values[0])} to {shown(values[-1])})"
    names = listed(shown(value, 24) for value in values) if len(values) <= 4 else plural(len(values), "value")
    return f"{dimension.label} ({names})"


def _standing(facts: SweepFacts, trials: int) -> str:
    if not trials:
        return "no trial has begun"
    counts = sorted(facts.counts.items(), key=lambda pair: -pair[1])
    if len(counts) == 1:
        return f"{plural(trials, 'trial')}, {'all ' if trials > 1 else ''}{counts[0][0]}"
    return f"{plural(trials, 'trial')}, {listed(f'{count:,} {state}' for state, count in counts)}"


def _best(facts: SweepFacts, dimensions: Sequence[Dimension]) -> str:
    best = facts.best
    if best is None:
        return f"None has reported {facts.metric} yet." if not facts.run.ended else f"None reported {facts.metric}."
    chosen = [f"{each.label} {shown(each.of(best), 24)}" for each in dimensions if each.kind != "expression"]
    where = listed(chosen or ["the only point"])
    of = f" over {plural(best.count, 'seed')}" if best.count > 1 else ""
    return f"Best: {where}, with {facts.metric} {mean_text(facts.metric, best.mean, best.spread)}{of}."


def mean_text(name: str, mean: float, spread: float | None) -> str:
    """`97.20% ± 0.35`, the spread of a share in percentage points; without a spread the mean alone."""
    return metric(name, mean) + (f" ± {spread_text(name, spread)}" if spread is not None else "")


def spread_text(name: str, spread: float) -> str:
    """Of a share in percentage points."""
    return f"{100 * spread:.2f}" if name.endswith("accuracy") else figure(spread)


def tiles(facts: SweepFacts) -> list[tuple[str, str]]:
    """The figures at the top: name and value."""
    best, counts = facts.best, facts.counts
    found: list[tuple[str, str]] = []
    if best:
        spread = best.spread
        found.append((f"best {facts.metric}{'' if spread is None else ', mean'}", metric(facts.metric, best.mean)))
        found += [] if spread is None else [("its spread over seeds", f"± {spread_text(facts.metric, spread)}")]
        own = next(row for row in facts.trials if row.id == best.trial)
        tested = [name for name in _OTHER[:2] if name != facts.metric and isinstance(own.metrics.get(name), int | float)]
        found += [(f"{name.replace('_', ' ')} of the best trial", metric(name, own.metrics[name])) for name in tested[:1]]
    found.append(("trials", f"{len(facts.trials):,}"))
    found += [(f"{state}", f"{counts[state]:,}") for state in ("stopped", "failed") if state in counts]
    if facts.run.state.used_seconds:
        found.append(("time of the sweep", duration(facts.run.state.used_seconds)))
    lengths = [length for row in facts.trials if (length := _length(row)) is not None]
    if lengths:
        found.append(("a trial takes", duration(statistics.median(lengths))))
    return found


def _length(row: TrialRow) -> float | None:
    done = row.started and row.finished and row.state == RunState.SUCCEEDED
    return row.finished - row.started if done and row.started and row.finished else None


def trial_table(facts: SweepFacts, dimensions: Sequence[Dimension]) -> Document:
    """`heads` of the columns that differ between sweeps, and a row for each trial that is shown."""
    names = other_metrics(facts)
    prefix = f"{facts.run.run_id}-"
    rows = []
    for rank, row in enumerate(facts.shown, 1):
        value = facts.value(row)
        rows.append(
            {
                "rank": f"{rank}" if value is not None else "–",
                "id": row.id.removeprefix(prefix),
                "params": _cells(dimensions, row),
                "seed": row.seed,
                "state": row.state,
                "epochs": _epochs(row),
                "value": "–" if value is None else metric(facts.metric, value),
                "other": [_other(row, name) for name in names],
                "end": _end(facts, row),
                "best": facts.best is not None and row.id == facts.best.trial,
            }
        )
    ends = any(row["end"] for row in rows)
    return {"heads": heads(dimensions), "other": names, "rows": rows, "left_out": len(facts.trials) - len(rows), "ends": ends}


def other_metrics(facts: SweepFacts) -> list[str]:
    """Validation and test metrics beside the sweep's own that a trial has."""
    return [name for name in _OTHER if name != facts.metric and any(name in row.metrics for row in facts.shown)]


def heads(dimensions: Sequence[Dimension]) -> list[str]:
    """The columns of what varied: one each, or one for all."""
    return [each.label for each in dimensions] if len(dimensions) <= MOST_COLUMNS else ["parameters"]


def _cells(dimensions: Sequence[Dimension], row: TrialRow | PointRow) -> list[str]:
    if len(dimensions) <= MOST_COLUMNS:
        return [shown(each.of(row)) for each in dimensions]
    return [", ".join(f"{each.label} {shown(each.of(row), 24)}" for each in dimensions)]


def _epochs(row: TrialRow) -> str:
    epoch, epochs = row.epoch, row.epochs
    if epoch is None:
        return "–"
    return f"{epoch}" if epochs in (None, epoch) else f"{epoch} of {epochs}"


def _other(row: TrialRow, name: str) -> str:
    value = row.metrics.get(name)
    return metric(name, value) if isinstance(value, int | float) else "–"


def _end(facts: SweepFacts, row: TrialRow) -> str:
    """Why a trial did not go to its end."""
    if row.state == RunState.FAILED:
        return short((row.error and row.error.message) or "for a reason that it could not write down", 200)
    if row.state == STOPPED and row.stopped:
        return short(row.stopped.message or f"stopped by {row.stopped.by}", 200)
    if row.state == RunState.SUCCEEDED and row.epoch and row.epochs and row.epoch < row.epochs:
        return f"early stopping: {_reason(facts, row)}"
    return ""


def _reason(facts: SweepFacts, row: TrialRow) -> str:
    """Why a trial stopped early: its last evaluation tells whether its goal was reached."""
    policy = Points(facts.sweep).spec(Point(row.point, row.base, row.params), row.seed).early_stopping
    return (stop_reason([row.metrics] * 2, policy) if policy else None) or "the metric stopped improving"


def schedule(facts: SweepFacts) -> str | None:
    """With what the best trial was trained before its last values; None where it had these from the beginning."""
    best = next((row for row in facts.trials if facts.best is not None and row.id == facts.best.trial), None)
    if best is None or not best.mutations:
        return None
    names = labels(list(facts.sweep.space))

    def values(params: Document) -> str:
        return ", ".join(f"{names[key]} {shown(value, 24)}" for key, value in params.items())

    steps = [f"from step {each.step} of {each.donor} on {values(each.params)}" for each in best.mutations]
    return f"It began with {values(best.first_params or {})}; {'; '.join(steps[-MOST_CHANGES:])}"


def point_table(facts: SweepFacts, dimensions: Sequence[Dimension]) -> Document | None:
    """Mean and spread of the best points; None where each has one trial."""
    if facts.sweep.seeds < 2:
        return None
    kept = [point for point in facts.points if point.mean is not None][:MOST_POINTS]
    rows = [
        {
            "params": _cells(dimensions, point),
            "value": mean_text(facts.metric, point.mean or 0.0, point.spread),
            "count": f"{point.count} of {len(point.trials)}",
            "best": facts.best is not None and point.point == facts.best.point,
        }
        for point in kept
    ]
    return {"heads": heads(dimensions), "rows": rows, "left_out": len(facts.points) - len(rows)} if rows else None


def failures(facts: SweepFacts) -> Document:
    """Failed trials by their reason, the most frequent first."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in facts.trials:
        if row.state == RunState.FAILED:
            error = row.error or Failure(message="")
            message = error.message or "It could not write down the reason."
            reasons.setdefault((error.kind or "unknown", short(message, 400)), []).append(row.id)
    groups = sorted(reasons.items(), key=lambda item: (-len(item[1]), item[1]))
    return {
        "count": sum(len(ids) for ids in reasons.values()),
        "groups": [
            {"kind": kind, "message": message, "count": len(ids), "example": min(ids)}
            for (kind, message), ids in groups[:MOST_REASONS]
        ],
        "left_out": max(0, len(groups) - MOST_REASONS),
    }


def importance_of(facts: SweepFacts, dimensions: Sequence[Dimension]) -> Importance:
    """Of the trials of a grid; of the means of points that were drawn, whose seeds say nothing more on the parameters."""
    if by_trial(facts, dimensions):
        rows = [row for row in facts.trials if facts.value(row) is not None]
        return importance(dimensions, rows, [facts.value(row) or 0.0 for row in rows])
    points = [point for point in facts.points if point.mean is not None]
    return importance(dimensions, points, [point.mean or 0.0 for point in points])


def by_trial(facts: SweepFacts, dimensions: Sequence[Dimension]) -> bool:
    """Whether each trial of the sweep counts for itself."""
    return facts.sweep.search == "grid" and all(each.kind in ("base", "grid", "expression") for each in dimensions)


def importance_section(facts: SweepFacts, dimensions: Sequence[Dimension]) -> dict[str, Any]:
    """Bars of the shares, and what they are made of."""
    found = importance_of(facts, dimensions)
    if found.missing is not None:
        return {"missing": found.missing}
    return {
        "rows": [
            {
                "name": share.dimension.label,
                "share": share.share,
                "text": percent(min(1.0, share.share)),
                "sure": share.sure,
                "levels": f"{share.bins} bins" if share.bins else plural(len(share.dimension.values), "value"),
            }
            for share in found.shares
        ],
        "rest": found.rest,
        "rest_text": percent(min(1.0, found.rest)),
        "observations": plural(found.observations, "trial" if by_trial(facts, dimensions) else "point"),
        "few": found.observations < 30,
        "binned": any(share.bins for share in found.shares),
        "expressions": [each.label for each in dimensions if each.kind == "expression"],
        "stopped": facts.counts.get("stopped", 0),
        "adaptive": facts.sweep.search == "tpe",
    }
