"""What a trained model makes of the test split, as the report shows it.

Nothing here may end a run: what fails is an event, and the report lacks that section.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.artifacts.tensors import Tensors, tensors_to_bytes
from jobs.datasets.reading import example_bytes
from jobs.training.analysis.description import named
from jobs.training.analysis.estimate import (
    ALL_REDUCE,
    FIRST,
    JUDGED,
    REMEMBERED,
    STATES,
    Budget,
    agree_on_budget,
    all_reduce_bytes,
    first_layer_bytes,
    judged_bytes,
    remembered_bytes,
    states_bytes,
)
from jobs.training.analysis.filters import (
    FirstLayer,
    activation_pictures,
    activations_model,
    example_pictures,
    filter_pictures,
    first_layer,
)
from jobs.training.analysis.memory import Memory, remember
from jobs.training.analysis.predictions import Predictions, mistakes, pairs, predict, surest_right
from jobs.training.analysis.states import States, hidden_states
from jobs.training.analysis.subject import Note, Subject, short
from jobs.training.replica import Replica
from service.records.run_record import Document, to_bytes

MOST_SECONDS = 120.0
"""For all model calls, compiling included (assumed: several times what they take on a slow machine)."""
REPEATS = 10
"""All-reduces that are timed (assumed: enough for a mean, over in a second)."""


@dataclass(frozen=True)
class _Looked:
    """What the model gave for test examples that belong to classes."""

    predictions: Predictions
    example: int
    """The position among the predictions of the example that the first layer was shown."""
    first: FirstLayer | str
    activations: NDArray[np.float32] | None


@dataclass(frozen=True)
class _Answers:
    """What the model gave: for classes, or for the bits of sequences; `states` of one example. None for what was left out."""

    found: _Looked | Memory | None
    states: list[States]
    all_reduce_seconds: float | None


def analyse(subject: Subject, note: Note) -> None:
    """Run the trained model on the test split; rank 0 writes the results. Every worker makes the same model calls."""
    began = time.monotonic()
    try:
        looked = _within(MOST_SECONDS, lambda: _look(subject, note))
        if subject.rank == 0:
            document, pictures = _results(subject, looked)
            document["seconds"] = round(time.monotonic() - began, 3)
            record = subject.record
            record.store.write(record.paths.pictures(subject.label), tensors_to_bytes(pictures))
            record.store.write(record.paths.results(subject.label), to_bytes(document))
    except Exception as error:
        note("not analysed", f"the report will lack what the model makes of the test examples: {short(error)}")


def _within(seconds: float, look: Callable[[], _Answers]) -> _Answers:
    """Return or raise what `look` does; raise TimeoutError after `seconds`.

    Where a model call fails in one worker the others would wait in a collective for ever: they stop waiting for it.
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


def _look(subject: Subject, note: Note) -> _Answers:
    replica, arrays = subject.replica, subject.arrays
    budget = agree_on_budget(replica, subject.memory, subject.rank, subject.workers, note)
    found: _Looked | Memory | None
    if subject.task.every_step:
        found = _remember(subject, budget)
        row = int(found.rows[0]) if found else 0
    else:
        found = _look_at_classes(subject, budget)
        row = int(found.predictions.rows[found.example]) if found else 0
    states: list[States] = []
    if budget.holds(STATES, states_bytes(replica.model)):
        states = hidden_states(replica, {name: array[row : row + 1] for name, array in arrays.test.items()})
    timed = budget.holds(ALL_REDUCE, all_reduce_bytes(replica.model, subject.workers))
    return _Answers(found, states, replica.all_reduce_seconds(REPEATS) if timed else None)


def _remember(subject: Subject, budget: Budget) -> Memory | None:
    arrays = subject.arrays
    count, steps = arrays.test_labels.shape
    needed = remembered_bytes(count, steps, example_bytes(arrays.test), subject.workers)
    if not budget.holds(REMEMBERED, needed):
        return None
    return remember(subject.replica, arrays.test, arrays.test_labels, subject.rank, subject.workers)


def _look_at_classes(subject: Subject, budget: Budget) -> _Looked | None:
    replica, arrays, classes = subject.replica, subject.arrays, len(subject.arrays.classes)
    needed = judged_bytes(len(arrays.test_labels), classes, example_bytes(arrays.test), subject.workers)
    if not budget.holds(JUDGED, needed):
        return None
    predictions = predict(replica, arrays.test, arrays.test_labels, classes, subject.rank, subject.workers)
    example = surest_right(predictions) or 0
    first: FirstLayer | str = "The dataset has several features."
    activations = None
    if len(arrays.features) == 1:
        first = first_layer(replica.realised_model(), tuple(arrays.features[0].shape))
    if isinstance(first, FirstLayer) and not budget.holds(FIRST, first_layer_bytes(first)):
        first = "It is left out: it would have taken too much of the worker's memory."
    if isinstance(first, FirstLayer):
        row = predictions.rows[example : example + 1]
        forward = replica.once(_forward_first, first.layer)
        activations = forward({name: array[row] for name, array in arrays.test.items()})[0]
    return _Looked(predictions, example, first, activations)


def _forward_first(replica: Replica, layer: Any) -> Callable[..., NDArray[np.float32]]:
    return replica.forward(activations_model(replica.model, layer))


def _results(subject: Subject, answers: _Answers) -> tuple[Document, Tensors]:
    """What is written: a document, and the pictures by name."""
    found = answers.found
    document: Document = {
        "attempt": subject.attempt,
        "of": len(subject.arrays.test_labels),
        "states": [states.document() for states in answers.states],
        "all_reduce_seconds": answers.all_reduce_seconds,
        "all_reduce_workers": subject.workers,
    }
    pictures: Tensors = {f"states-{place}": states.picture() for place, states in enumerate(answers.states)}
    if found is None:
        return {**document, **named(subject.arrays.classes)}, pictures
    if isinstance(found, Memory):
        return {**document, **named(subject.arrays.classes), "memory": found.document()}, {**pictures, **found.pictures()}
    judged, shown = _judged(subject, found)
    return {**document, **judged}, {**pictures, **shown}


def _judged(subject: Subject, looked: _Looked) -> tuple[Document, Tensors]:
    predictions = looked.predictions
    counted, wrong = pairs(predictions), mistakes(predictions)
    document: Document = {
        **named(subject.arrays.classes, (number for true, predicted, _ in counted for number in (true, predicted))),
        "examples": len(predictions.rows),
        "pairs": counted,
        "mistakes": wrong,
        "wrong": sum(count for true, predicted, count in counted if true != predicted),
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
        "filters": first.filters,
        "size": list(first.weights.shape[:3]),
        "true": int(predictions.labels[index]),
        "predicted": int(predictions.predicted[index]),
        "probability": round(float(predictions.probability[index]), 6),
    }
