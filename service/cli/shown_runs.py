"""Runs as `runs list` and `runs show` print them for people."""

from collections.abc import Sequence
from typing import Any

from service.cli.console import figures, idle_words, local_time, print_table
from service.records.answers import DamagedRow, Run, RunRow
from service.records.schemas import Row
from service.words import clock

HEADS = ("RUN", "KIND", "STATE", "MODEL", "DATASET", "WORKERS", "STEP", "RESULT", "SUBMITTED")
NEWEST_ROWS, NEWEST_EVENTS, MOST_TRIALS = 5, 10, 100
"""Of the long lists of a run, as many as a person reads (assumed)."""
_RESULTS = ("test_accuracy", "val_accuracy", "accuracy", "loss")


def print_rows(rows: Sequence[RunRow | DamagedRow]) -> None:
    """Print the table of `runs list`; tags have a column where a run has any."""
    if any(row.tags for row in rows):
        print_table([*HEADS, "TAGS"], [[*_cells(row), ", ".join(row.tags)] for row in rows])
    else:
        print_table(HEADS, [_cells(row) for row in rows])


def _cells(row: RunRow | DamagedRow) -> list[str]:
    if isinstance(row, DamagedRow):
        return [row.id, row.kind, row.state, "", "", "", "", row.error[:60], local_time(None)]
    result = figures(row.metrics, [name for name in (*_RESULTS, *row.metrics) if name in row.metrics][:1])
    step = f"{row.step}/{row.steps or '?'}" if row.step is not None else ""
    workers = list(row.workers) if isinstance(row.workers, tuple) else row.workers
    kept = [str(value or "") for value in (row.model, row.dataset, workers)]
    return [row.id, row.kind, row.state, *kept, step, result or (row.error or "")[:60], local_time(row.submitted)]


def readable(run: Run) -> dict[str, Any]:
    """The run's document with times as people read them and only the end of the long lists."""
    document = run.document()
    shown = {name: value for name, value in document.items() if value is not None}
    shown |= {name: local_time(shown[name]) for name in ("submitted", "started", "finished") if name in shown}
    if run.eta_seconds is not None:
        shown["eta_seconds"] = clock(run.eta_seconds)
    if run.idle_seconds is not None:
        shown["idle_seconds"] = idle_words(run.idle_seconds)
    if run.waiting is not None:
        shown["waiting"] = f"since {local_time(run.waiting.since)}: {run.waiting.message}"
    if not run.remarks:
        del shown["remarks"]
    shown["attempts"] = [
        {**attempt, **{name: local_time(attempt.get(name)) for name in ("started", "finished")}}
        for attempt in document["attempts"]
    ]
    shown["history"] = [_row_of_metrics(row) for row in run.history[-NEWEST_ROWS:]]
    shown["checkpoints"] = [checkpoint.path for checkpoint in run.checkpoints]
    shown["events"] = [f"{local_time(event.time)} {event.message or event.event}" for event in run.events[-NEWEST_EVENTS:]]
    if run.kind == "sweep":
        _shorten_sweep(shown, run)
    return shown


def _row_of_metrics(row: Row) -> str:
    """`2026-11-29 14:30:00  epoch 2  step 40  loss 0.1234`."""
    place = {name: value for name, value in (("epoch", row.epoch), ("step", row.step)) if value is not None}
    return "  ".join([local_time(row.time), figures({**place, **row.metrics})])


def _shorten_sweep(shown: dict[str, Any], run: Run) -> None:
    """A line for each trial, best first, in the place of all that is known of it; nothing of what its trials alone have."""
    from service.cli.sweep_display import cells, several_bases
    from service.sweeps.trials import table

    for name in ("phase", "epoch", "step", "history", "checkpoints"):
        shown.pop(name, None)
    rows = table(run.trials, str(run.spec["metric"]), str(run.spec["mode"]), most=MOST_TRIALS)
    named = several_bases(run.trials)
    shown["trials"] = ["  ".join(filter(None, cells(row, named))) for row in rows]
    shown["spec"] = {**shown["spec"], "base": [base["name"] for base in shown["spec"]["base"]]}
