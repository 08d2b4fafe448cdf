"""`delayline export RUN DIR`: a run's model for use elsewhere, written by a process that has TensorFlow."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.completion import export_formats
from service.cli.jobs_process import run_job
from service.cli.options import AsJson, RunId, StoreUrl, TrustFolder
from service.errors import InvalidInput
from service.records.run_record import RunRecord
from service.settings import Settings
from service.specs.choices import EXPORT_FORMATS
from service.storage import open_store

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def export(
    run: RunId,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write to; made if need be.")],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="keras, savedmodel or tflite; may be given again (default the first two).",
            autocompletion=export_formats,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Compare what was written with the run's model on its test split.")
    ] = True,
    trust_folder: TrustFolder = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write a run's model to DIR as model.keras, saved_model or model.tflite, with its TensorBoard files."""
    for name in formats or ():
        if name not in EXPORT_FORMATS:
            raise InvalidInput(f"--format {name[:40]!r} is not known: use {', '.join(EXPORT_FORMATS)}.")
    settings = Settings.load(store=store)
    opened = open_store(settings)
    RunRecord(opened, run).submission()
    arguments = ["--run", run, "--to", str(folder.absolute()), "--store", opened.url]
    arguments += [word for name in formats or () for word in ("--format", name)]
    arguments += [] if check else ["--no-check"]
    arguments += ["--trust-folder"] if trust_folder else []
    arguments += ["--json"] if as_json else []
    run_job(settings, "export", *arguments)
