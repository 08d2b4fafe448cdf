"""`delayline predict RUN FILE…`: what a run's model says of pictures or arrays, asked in a process that has TensorFlow."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.console import print_json, print_table, say
from service.cli.jobs_process import run_job
from service.cli.options import AsJson, RunId, StoreUrl, TrustFolder
from service.records.run_record import RunRecord
from service.settings import Settings
from service.storage import open_store

if TYPE_CHECKING:
    from service.records.model_answers import Prediction

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def predict(
    run: RunId,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="PNG, JPEG, WebP, BMP, TIFF, GIF, .npz (the array x, or the feature's name), CSV or Parquet files (columns by their names).",
        ),
    ],
    top: Annotated[int, typer.Option(metavar="K", min=1, help="Name the K likeliest classes.")] = 1,
    trust_folder: TrustFolder = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Classify pictures or arrays by a run's model, or give the bits that it recalls; pictures are brought to the size that it was trained on."""
    settings = Settings.load(store=store)
    opened = open_store(settings)
    RunRecord(opened, run).submission()
    trust = ("--trust-folder",) if trust_folder else ()
    arguments = ("--run", run, "--top", str(top), *trust, "--store", opened.url, "--", *map(str, files))
    from service.records.model_answers import Predictions

    answer = Predictions.model_validate_json(run_job(settings, "predict", *arguments, capture=True))
    if as_json:
        print_json(answer.document())
    else:
        _show(answer.predictions)


def _show(rows: "Sequence[Prediction]") -> None:
    if rows[0].bits is not None:
        print_table(["FILE", "BITS"], [[_name(row), row.bits or ""] for row in rows])
    else:
        print_table(["FILE", "CLASS", "PROBABILITY"], [line for row in rows for line in _lines(row)])
    for row in rows:
        if row.notes and not row.index:
            say(f"{row.file}: {', '.join(row.notes)}")


def _name(row: "Prediction") -> str:
    return row.file if row.index is None else f"{row.file}[{row.index}]"


def _lines(row: "Prediction") -> list[list[str]]:
    name = _name(row)
    ranked = [[each.of_class, f"{each.probability:.4f}"] for each in row.top]
    return [[name if number == 0 else "", *cells] for number, cells in enumerate(ranked)]
