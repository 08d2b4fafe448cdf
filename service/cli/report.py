"""`delayline runs report|compare`: pages made by a process that has the libraries for figures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import print_json, say
from service.cli.jobs_process import run_job
from service.cli.options import AsJson, RunId, StoreUrl
from service.errors import InvalidInput
from service.records.run_record import RunRecord
from service.settings import Settings
from service.storage import open_store
from service.storage.base import Store

if TYPE_CHECKING:
    from service.records.command_answers import Comparison, Report

ToFile = Annotated[
    Path | None, typer.Option("--to", metavar="FILE", help="Write the page to FILE; one that is there is replaced.")
]
Open = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]


def report(run: RunId, to: ToFile = None, open_: Open = False, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Make the report of a run or a sweep anew, finished or not: one HTML page, kept in the store; print where it is."""
    from service.records.command_answers import Report

    settings = Settings.load(store=store)
    opened = open_store(settings)
    paths = RunRecord(opened, run).paths
    RunRecord(opened, run).submission()
    # A page in a bucket is nothing that a browser opens: it is written to a file here too.
    target = to if to is not None or not _is_remote(opened) else Path(f"{run}-report.html")
    _make(settings, opened, ["--run", run], target)
    page = (target or Path(opened.url) / paths.report).expanduser()
    _tell(page, open_, as_json, Report(run=run, key=paths.report, path=str(page.absolute())))


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="The ids of runs, trials or sweeps, at least two.")],
    to: ToFile = None,
    open_: Open = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Set runs side by side on one HTML page: curves, what differs in their specs, results; print where it is.

    A sweep stands for its best trial.
    """
    from service.records.command_answers import Comparison

    settings = Settings.load(store=store)
    if len(runs) < 2:
        raise InvalidInput(
            f"There is nothing to compare {runs[0]!r} with: name at least two runs; `delayline runs list` shows them."
        )
    target = to or Path("compare.html")
    _make(settings, open_store(settings), ["--compare", *runs], target)
    _tell(target, open_, as_json, Comparison(runs=tuple(runs), path=str(target.expanduser().absolute())))


def _is_remote(store: Store) -> bool:
    return store.url.startswith("s3://")


def _make(settings: Settings, store: Store, what: list[str], target: Path | None) -> None:
    where = ["--to", str(target.expanduser().absolute())] if target is not None else []
    run_job(settings, "report", *what, "--store", store.url, *where)


def _tell(path: Path, open_: bool, as_json: bool, answer: "Report | Comparison") -> None:
    absolute = path.expanduser().absolute()
    if as_json:
        print_json(answer.document())
    else:
        print(path)
    if open_:
        import webbrowser

        if not webbrowser.open(absolute.as_uri()):
            say(f"There is no browser to open; the page is {absolute}.")
