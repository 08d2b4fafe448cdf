"""`delayline schema`: the JSON Schema of what commands print with `--json`."""

from typing import Annotated

import typer

from service.cli.console import print_json
from service.cli.options import AsJson
from service.errors import UnknownName
from service.records.command_answers import ANSWERS, json_schema

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def schema(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help=f"One of {', '.join(ANSWERS)}; without it all, each under its name.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the JSON Schema of what commands print with --json.

    run: runs show, watch and cancel, train, sweep. runs: runs list. plan: train and sweep with --dry-run. dataset: data show and
    import. datasets: data list. verified: data verify. note: runs note. logs: runs logs. pruned: runs prune. report: runs report.
    comparison: runs compare. doctor: doctor. recipe: recipes NAME. recipes: recipes. predictions: predict. export: export.
    """
    # Every command takes --json, and this one prints nothing else.
    del as_json
    if name is None:
        print_json({each: json_schema(each) for each in ANSWERS})
        return
    if name not in ANSWERS:
        raise UnknownName(f"There is no schema {name[:40]!r}: use one of {', '.join(ANSWERS)}.")
    print_json(json_schema(name))
