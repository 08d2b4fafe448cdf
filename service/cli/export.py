"""`delayline export RUN DIR`: a run's model for use elsewhere, written by a process that has TensorFlow."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from service.cli.options import RunId, StoreUrl
from service.settings import Settings, process_environment
from service.storage import open_store
from service.storage.records import RunRecord

app = typer.Typer(rich_markup_mode=None)


@app.command()
def export(
    run: RunId,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write to; made if need be.")],
    store: StoreUrl = None,
) -> None:
    """Write a run's model to DIR as model.keras and, in DIR/saved_model, as a SavedModel."""
    settings = Settings.load(store=store)
    opened = open_store(settings)
    RunRecord(opened, run).submission()
    argv = [sys.executable, "-m", "jobs.export", "--run", run, "--to", str(folder.absolute()), "--store", opened.url]
    done = subprocess.run(argv, env=process_environment(**settings.for_processes()), stdin=subprocess.DEVNULL, check=False)
    raise typer.Exit(done.returncode if done.returncode >= 0 else 4)
