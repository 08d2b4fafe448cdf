"""Several runs on one page: their curves over each other, what differs in their specs, their results."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from jobs.reports.breakdown import break_down
from jobs.reports.curves import Chart, Line, draw, points, spans_decades
from jobs.reports.facts import RunFacts
from jobs.reports.headline import headline
from jobs.reports.judged import LONGEST_NAME, MOST_LISTED, judged
from jobs.reports.memory import given
from jobs.reports.overfitting import judge
from jobs.reports.page import environment, run_rates
from jobs.reports.words import duration, metric, percent, short
from service.errors import InvalidInput

MOST_RUNS = 16
"""Lines that can still be distinguished: eight colours, each whole and dashed."""
_CURVES = (
    ("loss", "Training loss"),
    ("val_loss", "Validation loss"),
    ("accuracy", "Training accuracy"),
    ("val_accuracy", "Validation accuracy"),
    ("examples_per_second", "Examples a second"),
)


def check_ids(run_ids: Sequence[str]) -> None:
    """Two to MOST_RUNS different runs; raise InvalidInput."""
    double = sorted({run_id for run_id in run_ids if run_ids.count(run_id) > 1})
    if double:
        raise InvalidInput(f"The run {double[0]!r} is named twice: name each run once.")
    if not 2 <= len(run_ids) <= MOST_RUNS:
        raise InvalidInput(
            f"A comparison takes 2 to {MOST_RUNS} runs, not {len(run_ids)}: `delayline runs list` shows their ids."
        )


def render_comparison(runs: list[RunFacts], sweeps: Mapping[str, str | None] | None = None) -> str:
    """The whole page; `sweeps`: by run, the sweep that it stands for."""
    template = environment().get_template("compare.html.j2")
    rows, best = results(runs)
    classes, classes_note = class_table(runs)
    return template.render(
        runs=runs,
        sweeps={run_id: sweep for run_id, sweep in (sweeps or {}).items() if sweep is not None},
        headline=verdict(runs),
        given={run.run_id: sentence for run in runs if (sentence := given(run))},
        results=rows,
        best=best,
        differences=differences(runs),
        figures=[figure for name, title in _CURVES if (figure := overlay(runs, name, title))],
        judgements=[(run.run_id, headline(run), judge(run.history).sentence) for run in runs],
        classes=classes,
        classes_note=classes_note,
    )


def verdict(runs: list[RunFacts]) -> str:
    """Which run is best by what was measured of all of them, in one sentence."""
    for name, words, better in (
        ("test_accuracy", "test accuracy", max),
        ("val_accuracy", "validation accuracy", max),
        ("loss", "loss", min),
    ):
        values = {run.run_id: run.metrics[name] for run in runs if isinstance(run.metrics.get(name), int | float)}
        if len(values) < 2:
            continue
        best = better(values.values())
        winners = [run_id for run_id, value in values.items() if value == best]
        if len(winners) == len(values):
            return f"All reach the same {words}, {metric(name, best)}."
        second = better(value for value in values.values() if value != best)
        return f"Best {words}: {metric(name, best)} by {' and '.join(winners)}; the next reaches {metric(name, second)}."
    return "No figure was measured of two of them yet."


_RESULTS: tuple[tuple[str, Callable[[RunFacts], Any], Callable[[Any], str], Any], ...] = (
    ("state", lambda run: run.standing, str, None),
    ("test accuracy", lambda run: run.metrics.get("test_accuracy"), percent, max),
    ("test loss", lambda run: run.metrics.get("test_loss"), lambda value: metric("loss", value), min),
    ("validation accuracy", lambda run: run.metrics.get("val_accuracy"), percent, max),
    ("validation loss", lambda run: run.metrics.get("val_loss"), lambda value: metric("loss", value), min),
    ("training loss", lambda run: run.metrics.get("loss"), lambda value: metric("loss", value), min),
    ("parameters", lambda run: run.model.get("parameters"), lambda value: f"{value:,}", None),
    ("workers", lambda run: run.workers or None, str, None),
    ("steps", lambda run: run.step, lambda value: f"{value:,}", None),
    ("whole time", lambda run: _took(run), duration, min),
    ("examples a second", lambda run: _speed(run), lambda value: f"{value:,.0f}", max),
    ("attempts", lambda run: len(run.attempts), str, None),
)


def _took(run: RunFacts) -> float | None:
    started, finished = run.state.started, run.state.finished
    return finished - started if started and finished else None


def _speed(run: RunFacts) -> float | None:
    breakdown = break_down(run)
    return breakdown.examples_per_second if breakdown else None


def _asked(name: str) -> tuple[str, Callable[[RunFacts], Any], Callable[[Any], str], Any]:
    """A row of a metric that a spec asked for."""
    label = name.replace("val_", "validation ", 1).replace("test_", "test ", 1)
    return label, lambda run: run.metrics.get(name), lambda value: metric(name, value), max


def results(runs: list[RunFacts]) -> tuple[list[tuple[str, list[str]]], dict[str, set[int]]]:
    """A row of texts for each figure, and in which columns it is best; figures that no run has are left out."""
    rows, best = [], {}
    names = [name for run in runs for name in run.metrics if name.startswith(("test_", "val_"))]
    asked = [name for name in dict.fromkeys(names) if not name.endswith(("accuracy", "loss"))]
    for label, read, write, better in [*_RESULTS[:3], *map(_asked, asked), *_RESULTS[3:]]:
        values = [read(run) for run in runs]
        if all(value is None for value in values):
            continue
        rows.append((label, ["–" if value is None else write(value) for value in values]))
        known = [value for value in values if value is not None]
        if better is not None and len(known) > 1 and len(set(known)) > 1:
            top = better(known)
            best[label] = {index for index, value in enumerate(values) if value == top}
    return rows, best


def differences(runs: list[RunFacts]) -> list[tuple[str, list[str]]]:
    """The keys of the specs, dotted, whose values are not the same in all runs, and the version of the data."""
    flat = [{**_flat("", run.spec), "dataset version": run.submission.dataset_version} for run in runs]
    keys = list(dict.fromkeys(key for spec in flat for key in spec))
    rows = []
    for key in keys:
        values = [_shown(spec[key]) if key in spec and spec[key] is not None else "–" for spec in flat]
        if len(set(values)) > 1:
            rows.append((key, values))
    return rows


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= _flat(f"{prefix}.{name}" if prefix else str(name), inner)
    return found


def _shown(value: Any) -> str:
    return short(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 80)


def overlay(runs: list[RunFacts], name: str, title: str) -> Markup | None:
    """One metric of all runs; None where fewer than two have it."""
    units = [run.steps_per_epoch for run in runs]
    # Epochs of different lengths are still epochs; without their length steps have to do.
    by_epoch = all(units)
    lines = []
    for index, run in enumerate(runs):
        unit = units[index] if by_epoch else None
        found = run_rates(run, unit) if name == "examples_per_second" else points(run.history, name, unit)
        if found:
            lines.append(Line(short(run.run_id, 26), found, index, style=index // 8, dots=name.startswith("val_")))
    if len(lines) < 2:
        return None
    share = name.endswith("accuracy")
    ends = ", ".join(f"{line.label} ends at {metric(name, line.points[-1][1])}" for line in lines)
    log = not share and name.endswith("loss") and spans_decades(lines)
    return draw(
        Chart(f"compare-{name}", title, f"{title}: {ends}.", lines, "epoch" if by_epoch else "step", share=share, log=log)
    )


def class_table(runs: list[RunFacts]) -> tuple[list[tuple[str, list[float | None]]], str]:
    """The accuracy of each class by each run, where at least two were tested on the same classes, and what to say of it.

    Of many classes those between which the runs differ most.
    """
    tested = [judged(run.results) for run in runs]
    known = [found for found in tested if found]
    if len(known) < 2 or any(found.digest != known[0].digest for found in known):
        return [], ""
    numbers = range(known[0].classes) if known[0].classes <= MOST_LISTED else sorted({n for found in known for n in found.rows})
    rows = {number: [None if found is None else found.row(number).recall for found in tested] for number in numbers}
    names = {number: name for found in reversed(known) for number, name in found.names.items()}
    shown, note = list(rows), ""
    if len(rows) > MOST_LISTED:
        shown = sorted(sorted(rows, key=lambda number: (-_apart(rows[number]), number))[:MOST_LISTED])
        note = f"These are the {MOST_LISTED} of {known[0].classes:,} classes in which the runs differ most."
    return [(short(names.get(number, str(number)), LONGEST_NAME), rows[number]) for number in shown], note


def _apart(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return max(known) - min(known) if known else -1.0
