"""`delayline runs list|show|note|watch|logs|report|compare|cancel|prune`: what the store knows of runs."""

import time
from typing import Annotated

import typer

from service import runs
from service.cli.completion import all_states, dataset_names
from service.cli.console import print_json, print_yaml, printable, say
from service.cli.logs import follow_logs, heading
from service.cli.options import AsJson, RunId, StoreCluster, StoreUrl
from service.cli.places import NOT_STARTED, as_its_job_says, open_place
from service.cli.prune import prune
from service.cli.report import compare, report
from service.cli.shown_runs import print_rows, readable
from service.errors import InfrastructureFailure
from service.records.answers import RunRow
from service.records.notes import LONGEST, with_notes, write_note
from service.records.run_record import RunRecord
from service.records.schemas import RunState
from service.runs.choice import NEWEST, STATES, check_choice, choose_rows, parse_limit, parse_since
from service.runs.endings import lost, raise_for
from service.settings import Settings
from service.storage.base import Store

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def main() -> None:
    """List, show, note, watch, report, compare, cancel and prune runs; read their logs."""


app.command()(report)
app.command()(compare)
app.command()(prune)


def _open(store: str | None, cluster: str | None = None) -> Store:
    return open_place(Settings.load(store=store, cluster=cluster))[1]


States = Annotated[
    list[str] | None,
    typer.Option(
        "--state", metavar="STATE", help=f"In this state; may be repeated: {', '.join(STATES)}.", autocompletion=all_states
    ),
]
Datasets = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset", metavar="NAME", help="On this dataset, NAME or NAME@VERSION; may be repeated.", autocompletion=dataset_names
    ),
]
Models = Annotated[
    list[str] | None, typer.Option("--model", metavar="NAME", help="Of this model, as the list shows it; may be repeated.")
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="TAG", help="With this tag, of `-s tags=[…]`; repeated: with all of them.")
]
Since = Annotated[str | None, typer.Option(metavar="WHEN", help="Submitted since then: 7d, 12h, 2026-11-01 or 2026-11-01T14:30.")]
Limit = Annotated[
    str | None,
    typer.Option(metavar="N", help=f"The newest N; 0 or all: all. [{NEWEST}; with --json all, for scripts that read every run]"),
]


@app.command("list")
def list_(
    states: States = None,
    datasets: Datasets = None,
    models: Models = None,
    tags: Tags = None,
    since: Since = None,
    limit: Limit = None,
    trials: Annotated[bool, typer.Option("--trials", help="List the trials of sweeps too, each of which is a run.")] = False,
    store: StoreUrl = None,
    cluster: StoreCluster = None,
    as_json: AsJson = False,
) -> None:
    """List runs and sweeps, newest first: all, or those that have all of what is asked for."""
    after = None if since is None else parse_since(since)
    most = (None if as_json else NEWEST) if limit is None else parse_limit(limit)
    check_choice(states or (), tags or ())
    place, opened = open_place(Settings.load(store=store, cluster=cluster))
    listed = [
        as_its_job_says(place, row) if isinstance(row, RunRow) and row.state == RunState.LOST and not row.sweep else row
        for row in runs.list_runs(opened)
        if trials or not row.sweep
    ]
    found = choose_rows(listed, states or (), datasets or (), models or (), after, tags or ())
    if as_json:
        print_json([row.document() for row in with_notes(opened, found[:most])])
        return
    if not found:
        say(_why_none(len(listed)))
        return
    print_rows(found[:most])
    if most is not None and len(found) > most:
        say(f"… and {len(found) - most:,} more: --limit 0 shows them all")


def _why_none(listed: int) -> str:
    if not listed:
        return "There are no runs yet; `delayline train` makes one."
    return f"No run in the store is such a one; `delayline runs list` shows all {listed:,} without these options."


@app.command()
def show(run: RunId, store: StoreUrl = None, cluster: StoreCluster = None, as_json: AsJson = False) -> None:
    """Show all that is known of a run."""
    place, opened = open_place(Settings.load(store=store, cluster=cluster))
    found = as_its_job_says(place, runs.show(opened, run))
    if as_json:
        print_json(found.document())
        return
    print_yaml(readable(found))


@app.command()
def note(
    run: RunId,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help=f"At most {LONGEST:,} characters, in quotes; '' deletes the note.")
    ] = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write a note on a run or a sweep in the place of the one that it has; without TEXT, print that.

    It is shown by `runs show`, `runs list --json`, and the report that is made after it.
    """
    opened = _open(store)
    record = RunRecord(opened, run)
    if text is not None:
        write_note(opened, run, text)
    record.submission()
    kept = record.note()
    if as_json:
        from service.records.command_answers import Note

        print_json(Note(id=run, note=kept).document())
    elif text is not None:
        say(f"run {run} has {'this note' if kept else 'no note'} now")
    elif kept is None:
        say(f"run {run} has no note; `delayline runs note {run} TEXT` writes one")
    else:
        print(printable(kept))


@app.command()
def watch(run: RunId, store: StoreUrl = None, cluster: StoreCluster = None, as_json: AsJson = False) -> None:
    """Show a run's progress until its end; Ctrl-C leaves the run alone."""
    from service.cli.follow import make_display
    from service.cli.results import result_line

    place, opened = open_place(Settings.load(store=store, cluster=cluster))
    display = make_display(run, RunRecord(opened, run).submission().kind)
    handle = None if place is None else place.find(run)
    said: str | None = None
    try:
        for update in runs.watch(opened, run):
            display.show(update)
            if update.state in NOT_STARTED and handle is not None and handle.poll() is None:
                before, said = said, handle.hindrance()
                if said is not None and said != before:
                    display.note(f"{said}.")
                continue
            if update.state == RunState.LOST:
                break
    finally:
        display.close()
    found = runs.show(opened, run)
    if as_json:
        print_json(found.document())
    if update.state == RunState.LOST:
        raise lost(run)
    raise_for(run, update.document)
    if not as_json:
        print(result_line(found))


@app.command()
def logs(
    run: RunId,
    attempt: Annotated[int | None, typer.Option(min=0, help="Which attempt; the latest without it.")] = None,
    rank: Annotated[int | None, typer.Option(min=0, help="Which worker; all, and the driver, without it.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print new lines as they come, until the run's end; Ctrl-C leaves it alone.")
    ] = False,
    store: StoreUrl = None,
    cluster: StoreCluster = None,
    as_json: AsJson = False,
) -> None:
    """Print what the processes of a run printed."""
    if follow:
        follow_logs(_open(store, cluster), run, attempt, rank, as_json)
        return
    found = runs.logs(_open(store, cluster), run, attempt, rank)
    if as_json:
        from service.records.command_answers import Log

        print_json([Log(attempt=log.attempt, rank=log.rank, text=log.text).document() for log in found])
        return
    for log in found:
        if len(found) > 1:
            say(heading(log.attempt, log.rank))
        print(printable(log.text), end="" if log.text.endswith("\n") else "\n", flush=True)


@app.command()
def cancel(
    run: RunId,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the run's end; 0 returns at once.")] = 120.0,
    store: StoreUrl = None,
    cluster: StoreCluster = None,
    as_json: AsJson = False,
) -> None:
    """Ask a run or a sweep to save and stop; `delayline train` or `sweep` with `--resume --name RUN` resumes it."""
    place, opened = open_place(Settings.load(store=store, cluster=cluster))
    outcome = runs.cancel(opened, run)
    if outcome == RunState.CANCELLED and place is not None and (job := place.find(run)) is not None:
        # It has no driver yet that would see it: what waits for pods would go on waiting.
        job.stop()
    if outcome == "requested" and wait:
        say(f"asked the run {run} to save and stop")
        _wait_for_end(opened, run, wait)
    found = runs.show(opened, run)
    if as_json:
        print_json(found.document())
    else:
        print(f"run {run} is {found.state}")


def _wait_for_end(store: Store, run: str, limit: float) -> None:
    deadline = time.monotonic() + limit
    for update in runs.watch(store, run):
        if update.is_ended:
            return
        if time.monotonic() > deadline:
            where = f"`delayline runs show {run}` says how it stands"
            raise InfrastructureFailure(f"The run {run} was asked to stop but has not ended within {limit:g} s; {where}.")
