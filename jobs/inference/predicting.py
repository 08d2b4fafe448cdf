"""What a finished run's model says of files: classes or bits, one row an example."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.command_line import silenced
from jobs.inference.finished_run import FinishedRun
from service.datasets.examples import Examples, bits_as_signs, read_examples
from service.errors import UserFailure
from service.records.model_answers import Prediction, Predictions, RankedClass
from service.scratch import ScratchFolder
from service.specs.generated import generated, is_bits_task

BATCH = 256


def predict(run: FinishedRun, files: list[Path], top: int = 1) -> Predictions:
    """The classes of all examples of all files, or their bits at each step; raise BadData or InvalidInput for a file before that."""
    # Bad files are refused before TensorFlow is imported.
    found = [read_examples(path, run.dataset.features, run.dataset.ground) for path in files]
    made = generated(run.spec.dataset, run.spec.dataset_params) if is_bits_task(run.spec.task) else None
    if made is not None:
        found = [bits_as_signs(examples) for examples in found]
    logits = _logits(run, found)
    rows: list[Prediction] = []
    for examples in found:
        for index in range(examples.count):
            own = logits[len(rows)]
            row = (
                _row(examples, index, own, run.dataset.classes, top)
                if made is None
                else _bits_row(examples, index, own, made.delay)
            )
            rows.append(row)
    return Predictions(run=run.record.run_id, classes=run.dataset.classes, predictions=tuple(rows))


def _row(examples: Examples, index: int, logits: NDArray[np.float64], classes: tuple[str, ...], top: int) -> Prediction:
    powers = np.exp(logits - logits.max())
    chances = powers / powers.sum()
    likeliest = np.argsort(-chances, kind="stable")[: max(1, top)]
    ranked = tuple(RankedClass(of_class=classes[number], probability=float(chances[number])) for number in likeliest)
    best = ranked[0]
    return Prediction(
        file=examples.file,
        index=_index_in(examples, index),
        of_class=best.of_class,
        probability=best.probability,
        top=ranked,
        notes=examples.notes,
    )


def _bits_row(examples: Examples, index: int, logits: NDArray[np.float64], delay: int) -> Prediction:
    """`bits` as a text, one for each step and `.` for the first `delay`, and the `probabilities` that they are a 1."""
    ones = 1 / (1 + np.exp(-np.clip(logits[:, 0], -700, 700)))
    bits = "." * delay + "".join("1" if logit > 0 else "0" for logit in logits[delay:, 0])
    return Prediction(
        file=examples.file, index=_index_in(examples, index), bits=bits, probabilities=tuple(ones.tolist()), notes=examples.notes
    )


def _index_in(examples: Examples, index: int) -> int | None:
    return index if examples.count > 1 else None


def _logits(run: FinishedRun, found: list[Examples]) -> NDArray[np.float64]:
    """What the model answers, [examples, classes] or [examples, steps, 1]."""
    with silenced():
        from jobs.inference.formats import answers_of

    columns = {name: np.concatenate([each.columns[name] for each in found]) for name in found[0].columns}
    with ScratchFolder("predict") as scratch:
        ask = answers_of(run.model(Path(scratch)))
    count = len(next(iter(columns.values())))
    logits: NDArray[np.float64] = np.concatenate(
        [ask({name: array[first : first + BATCH] for name, array in columns.items()}) for first in range(0, count, BATCH)]
    ).astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(logits.reshape(count, -1)).all(axis=1))
    if len(wrong):
        raise UserFailure(
            f"{_file_of(found, int(wrong[0]))}: the model's answer is not a finite number: see whether the values are."
        )
    return logits


def _file_of(found: list[Examples], row: int) -> str:
    for examples in found:
        if row < examples.count:
            return examples.file
        row -= examples.count
    raise IndexError(row)
