"""Let a finished run's model classify files: `python -m jobs.predict --run ID [--top K] FILE…`; prints a JSON document."""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.answers import answering, hushed
from jobs.entry_point import add_common_options, exit_code_of
from jobs.finished_model import FinishedRun, finished_run
from service.datasets.examples import Examples, read_examples
from service.errors import UserFailure
from service.settings import Settings
from service.storage import open_store
from service.storage.records import Document, RunRecord

BATCH = 256


def main(argv: list[str]) -> int:
    """Parse, predict and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.predict", description="Let a run's model classify files.")
    parser.add_argument("--run", required=True, help="the run's id")
    parser.add_argument("--top", type=int, default=1, help="how many classes to name, the likeliest first")
    add_common_options(parser)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="PNG, JPEG or .npz")
    arguments = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    def work() -> None:
        with answering() as answer:
            record = RunRecord(open_store(Settings.load(store=arguments.store)), arguments.run)
            answer(predict(finished_run(record, "to predict with"), arguments.files, arguments.top))

    return exit_code_of(work, arguments.debug)


def predict(run: FinishedRun, files: list[Path], top: int = 1) -> Document:
    """The classes of all examples of all files; raise BadData or InvalidInput for a file before any is classified."""
    # Bad files are told before TensorFlow is imported.
    found = [read_examples(path, run.dataset.features) for path in files]
    chances = _chances(run, found)
    rows: list[Document] = []
    for examples in found:
        for index in range(examples.count):
            rows.append(_row(examples, index, chances[len(rows)], run.dataset.classes, top))
    return {"run": run.record.run_id, "classes": list(run.dataset.classes), "predictions": rows}


def _row(examples: Examples, index: int, chances: NDArray[np.float64], classes: tuple[str, ...], top: int) -> Document:
    likeliest = np.argsort(-chances, kind="stable")[: max(1, top)]
    ranked = [{"class": classes[number], "probability": float(chances[number])} for number in likeliest]
    where = {"file": examples.file, "index": index if examples.count > 1 else None}
    return {**where, **ranked[0], "top": ranked, "notes": list(examples.notes)}


def _chances(run: FinishedRun, found: list[Examples]) -> NDArray[np.float64]:
    """The probabilities of the classes, [examples, classes]."""
    with hushed():
        from jobs.exported import answers_of

    columns = {name: np.concatenate([each.columns[name] for each in found]) for name in found[0].columns}
    with tempfile.TemporaryDirectory(prefix="delayline-predict-") as scratch:
        ask = answers_of(run.model(Path(scratch)))
    count = len(next(iter(columns.values())))
    logits = np.concatenate(
        [ask({name: array[first : first + BATCH] for name, array in columns.items()}) for first in range(0, count, BATCH)]
    ).astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(wrong):
        raise UserFailure(
            f"{_file_of(found, int(wrong[0]))}: the model's answer is not a finite number: see whether the values are."
        )
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances: Any = powers / powers.sum(axis=1, keepdims=True)
    return chances  # type: ignore[no-any-return]


def _file_of(found: list[Examples], row: int) -> str:
    for examples in found:
        if row < examples.count:
            return examples.file
        row -= examples.count
    raise IndexError(row)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
