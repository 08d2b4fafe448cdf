"""What the report needs of the model while it is in memory: its layers at the start, what it makes of the test split at the end.

Nothing here may end a run: what fails is an event, and the report leaves that section out.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.analysis.filters import (
    FirstLayer,
    activation_pictures,
    activations_model,
    example_pictures,
    filter_pictures,
    first_layer,
    is_picture,
)
from jobs.analysis.hardware import hardware, versions
from jobs.analysis.layers import layer_rows
from jobs.analysis.memory import Memory, remember
from jobs.analysis.predictions import (
    MOST_CLASSES_OF_A_MATRIX,
    Predictions,
    class_rows,
    confusion,
    mistakes,
    predict,
    surest_right,
)
from jobs.analysis.states import States, hidden_states
from jobs.datasets import Arrays
from jobs.replica import Replica
from jobs.tasks import Task, task_for
from jobs.tensors import Tensors, tensors_to_bytes
from service.datasets import Feature
from service.specs import TrainSpec
from service.storage.records import Document, RunRecord, to_bytes

MOST_SECONDS = 120.0
"""For all that the model is asked, compiling included (assumed: several times what it takes on a slow machine)."""
REPEATS = 10
"""All-reduces that are timed (assumed: enough for a mean, over in a second)."""

Note = Callable[[str, str], None]
"""`note(event, message)`: an event of the run."""


@dataclass(frozen=True)
class Subject:
    """What is looked at: a replica, its data, and where this worker stands."""

    spec: TrainSpec
    record: RunRecord
    replica: Replica
    arrays: Arrays
    rank: int
    workers: int
    attempt: int
    counts: Document
    """Examples: `training`, `validation`, `test`; and `steps_per_epoch`."""

    @property
    def label(self) -> str:
        """The attempt's part of the keys of what is written."""
        return self.record.label(self.attempt)

    @property
    def picture(self) -> Feature | None:
        """The feature whose values are pictures, if there is one."""
        return next((feature for feature in self.arrays.features if is_picture(tuple(feature.shape))), None)

    @property
    def task(self) -> Task:
        """The run's task."""
        return task_for(self.spec)


@dataclass(frozen=True)
class _Looked:
    """What only the model could say of examples that belong to classes."""

    predictions: Predictions
    example: int
    """The position among the predictions of the example that the first layer was shown."""
    first: FirstLayer | str
    activations: NDArray[np.float32] | None


@dataclass(frozen=True)
class _Answers:
    """What the model said: of classes, or of the bits of sequences; `states` of one example."""

    found: _Looked | Memory
    states: list[States]
    all_reduce_seconds: float


def describe_attempt(subject: Subject, note: Note) -> None:
    """Write what is known before the first step: each worker its machine, rank 0 the layers and the data."""
    record = subject.record
    try:
        document = {"attempt": subject.attempt, "rank": subject.rank, **hardware(), "cpus": subject.spec.worker.cpus}
        record.store.write(record.paths.hardware(subject.label, subject.rank), to_bytes(document))
        if subject.rank == 0:
            record.store.write(record.paths.model_facts(subject.label), to_bytes(_model_facts(subject)))
    except Exception as error:
        note("not described", f"the report will lack the model's layers: {_short(error)}")


def analyse(subject: Subject, note: Note) -> None:
    """Look at what the trained model makes of the test split; rank 0 writes it. Every worker makes the same model calls."""
    began = time.monotonic()
    try:
        looked = _within(MOST_SECONDS, lambda: _look(subject))
        if subject.rank == 0:
            document, pictures = _results(subject, looked)
            document["seconds"] = round(time.monotonic() - began, 3)
            record = subject.record
            record.store.write(record.paths.pictures(subject.label), tensors_to_bytes(pictures))
            record.store.write(record.paths.results(subject.label), to_bytes(document))
    except Exception as error:
        note("not analysed", f"the report will lack what the model makes of the test examples: {_short(error)}")


def _within(seconds: float, look: Callable[[], _Answers]) -> _Answers:
    """What `look` returns or raises; TimeoutError after so long.

    A worker in which a model call fails goes on, and the others would wait in a collective for ever: they leave it behind.
    """
    done: Future[_Answers] = Future()

    def run() -> None:
        try:
            done.set_result(look())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="analysis", daemon=True).start()
    try:
        return done.result(seconds)
    except TimeoutError as error:
        raise TimeoutError(f"it took longer than {seconds:g} s") from error


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _model_facts(subject: Subject) -> Document:
    model, arrays = subject.replica.model, subject.arrays
    return {
        "attempt": subject.attempt,
        "layers": layer_rows(model),
        "parameters": int(model.count_params()),
        "trained": int(sum(np.prod(variable.shape) for variable in model.trainable_variables)),
        "features": [{"name": f.name, "dtype": f.dtype, "shape": list(f.shape), "scale": f.scale} for f in arrays.features],
        "classes": list(arrays.classes),
        "chance": subject.task.chance,
        "counts": {**subject.counts, **({} if subject.task.every_step else _by_class(arrays))},
        "versions": versions(),
    }


def _by_class(arrays: Arrays) -> Document:
    return {"by_class": np.bincount(arrays.train_labels, minlength=len(arrays.classes)).tolist()}


def _look(subject: Subject) -> _Answers:
    replica, arrays = subject.replica, subject.arrays
    found: _Looked | Memory
    if subject.task.every_step:
        found = remember(replica, arrays.test, arrays.test_labels, subject.rank, subject.workers)
        row = int(found.rows[0])
    else:
        found = _look_at_classes(subject)
        row = int(found.predictions.rows[found.example])
    states = hidden_states(replica, {name: array[row : row + 1] for name, array in arrays.test.items()})
    return _Answers(found, states, replica.all_reduce_seconds(REPEATS))


def _look_at_classes(subject: Subject) -> _Looked:
    replica, arrays = subject.replica, subject.arrays
    predictions = predict(replica, arrays.test, arrays.test_labels, len(arrays.classes), subject.rank, subject.workers)
    example = surest_right(predictions) or 0
    first: FirstLayer | str = "The dataset has several features."
    activations = None
    if len(arrays.features) == 1:
        first = first_layer(replica.model, tuple(arrays.features[0].shape))
    if isinstance(first, FirstLayer):
        row = predictions.rows[example : example + 1]
        shown = first
        forward = replica.once("activations", lambda: replica.forward(activations_model(replica.model, shown)))
        activations = forward({name: array[row] for name, array in arrays.test.items()})[0]
    return _Looked(predictions, example, first, activations)


def _results(subject: Subject, answers: _Answers) -> tuple[Document, Tensors]:
    """What is written: a document, and the pictures by name."""
    found, classes = answers.found, list(subject.arrays.classes)
    document: Document = {
        "attempt": subject.attempt,
        "of": len(subject.arrays.test_labels),
        "classes": classes,
        "states": [states.document() for states in answers.states],
        "all_reduce_seconds": answers.all_reduce_seconds,
        "all_reduce_workers": subject.workers,
    }
    pictures: Tensors = {f"states-{place}": states.picture() for place, states in enumerate(answers.states)}
    if isinstance(found, Memory):
        return {**document, "memory": found.document()}, {**pictures, **found.pictures()}
    judged, shown = _judged(subject, found)
    return {**document, **judged}, {**pictures, **shown}


def _judged(subject: Subject, looked: _Looked) -> tuple[Document, Tensors]:
    predictions, classes = looked.predictions, len(subject.arrays.classes)
    matrix = confusion(predictions, classes)
    wrong = mistakes(predictions)
    document: Document = {
        "examples": len(predictions.rows),
        "by_class": class_rows(matrix),
        "confused": _confused(matrix),
        "confusion": matrix.tolist() if classes <= MOST_CLASSES_OF_A_MATRIX else None,
        "mistakes": wrong,
        "wrong": int(len(predictions.rows) - np.trace(matrix)),
    }
    pictures: Tensors = {}
    if (feature := subject.picture) is not None:
        rows = [mistake["row"] for mistake in wrong]
        shown = subject.arrays.test[feature.name]
        if rows:
            pictures["mistakes"] = example_pictures(shown[np.array(rows)], feature.scale)
        pictures["example"] = example_pictures(shown[predictions.rows[looked.example : looked.example + 1]], feature.scale)
    return {**document, "first_layer": _first_layer(looked, predictions, pictures)}, pictures


def _first_layer(looked: _Looked, predictions: Predictions, pictures: Tensors) -> Document:
    first = looked.first
    if isinstance(first, str) or looked.activations is None:
        return {"why_not": first if isinstance(first, str) else ""}
    pictures["filters"] = filter_pictures(first.weights)
    pictures["activations"] = activation_pictures(looked.activations)
    index = looked.example
    return {
        "name": first.layer.name,
        "kind": type(first.layer).__name__,
        "convolves": first.convolves,
        "filters": int(first.weights.shape[-1]),
        "size": list(first.weights.shape[:3]),
        "true": int(predictions.labels[index]),
        "predicted": int(predictions.predicted[index]),
        "probability": round(float(predictions.probabilities[index].max()), 6),
    }


def _confused(matrix: NDArray[np.int64], most: int = 15) -> list[dict[str, Any]]:
    """The pairs of classes that were confused most often: `true`, `predicted`, `count`."""
    off = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-off, axis=None, kind="stable")[:most]
    pairs = [divmod(int(index), len(matrix)) for index in order]
    return [{"true": row, "predicted": column, "count": int(off[row, column])} for row, column in pairs if off[row, column]]
