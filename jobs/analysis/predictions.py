"""What the model says of test examples, gathered from all workers; the confusion matrix and the worst mistakes."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.replica import Replica
from service.storage.records import Document

MOST_EXAMPLES = 10_000
"""Of a larger test split so many are taken, evenly spaced (assumed: an accuracy to half a percent or better)."""
MOST_VALUES = 5_000_000
"""Logits in memory at once: 20 MB (assumed)."""
MOST_SECONDS = 20.0
"""For all predictions; a slow model is asked about fewer examples (assumed)."""
BATCH = 128
MOST_CLASSES_OF_A_MATRIX = 200
MISTAKES = 24

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Predictions:
    """`rows` of the test split with their `labels` [n] and `probabilities` [n, classes]; the same on all workers."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int32]
    probabilities: Floats

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each: [n]."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)


def predict(
    replica: Replica,
    features: Mapping[str, NDArray[np.generic]],
    labels: NDArray[np.int32],
    classes: int,
    rank: int,
    workers: int,
) -> Predictions:
    """Ask the model about as many test examples as time allows. Every worker takes part."""
    rows, logits = ask(replica, features, len(labels), (classes,), rank, workers)
    return Predictions(rows, np.asarray(labels[rows]), softmax(logits))


def ask(
    replica: Replica,
    features: Mapping[str, NDArray[np.generic]],
    count: int,
    outputs: tuple[int, ...],
    rank: int,
    workers: int,
) -> tuple[NDArray[np.int64], Floats]:
    """The numbers of as many of `count` examples as time allows, and the logits of each, [n, *outputs]; the same on all workers.

    Every worker takes part, with the same number of calls.
    """
    forward = replica.once("answers", lambda: replica.forward(replica.model))
    total = min(count, MOST_EXAMPLES, max(1, MOST_VALUES // math.prod(outputs)))
    batch = min(BATCH, -(-total // workers))

    def call(rows: NDArray[np.int64]) -> Floats:
        padded = np.concatenate([rows, np.zeros(batch - len(rows), np.int64)])
        return forward({name: array[padded] for name, array in features.items()})[: len(rows)]

    probe = np.zeros(batch, np.int64)
    call(probe)
    began = time.monotonic()
    call(probe)
    mean = float(replica.sum_over_workers(np.array([time.monotonic() - began], np.float32))[0]) / workers
    calls = max(1, min(-(-total // (batch * workers)), int(MOST_SECONDS / max(mean, 1e-6))))
    rows = evenly_spaced(count, min(total, calls * batch * workers))
    logits = np.zeros((len(rows), *outputs), np.float32)
    for index in range(calls):
        mine = np.arange(len(rows))[rank::workers][index * batch : (index + 1) * batch]
        logits[mine] = call(rows[mine])
    # Each row is zero on all workers but one: the sum gathers them.
    gathered = replica.sum_over_workers(logits.reshape(-1)).reshape(logits.shape)
    return rows, gathered


def evenly_spaced(count: int, wanted: int) -> NDArray[np.int64]:
    """`wanted` of the numbers below `count`, ascending, each once: a split sorted by class is met in all its classes."""
    return (np.arange(wanted, dtype=np.int64) * count) // max(wanted, 1)


def softmax(logits: Floats) -> Floats:
    """Probabilities over the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), np.float32)


def confusion(predictions: Predictions, classes: int) -> NDArray[np.int64]:
    """How many examples of class r (row) were taken for class c (column)."""
    flat = np.bincount(predictions.labels.astype(np.int64) * classes + predictions.predicted, minlength=classes * classes)
    return flat.reshape(classes, classes)


def class_rows(matrix: NDArray[np.int64]) -> list[Document]:
    """Of each class: `examples`, `right`, and of those taken for it `taken`, by class number."""
    sums = zip(matrix.sum(axis=1), np.diag(matrix), matrix.sum(axis=0), strict=True)
    return [{"examples": int(n), "right": int(right), "taken": int(taken)} for n, right, taken in sums]


def mistakes(predictions: Predictions, most: int = MISTAKES) -> list[Document]:
    """The mistakes of which the model was surest: `row` of the test split, `true`, `predicted`, both probabilities."""
    predicted = predictions.predicted
    wrong = np.flatnonzero(predicted != predictions.labels)
    sure = predictions.probabilities[wrong, predicted[wrong]]
    chosen = wrong[np.argsort(-sure, kind="stable")][:most]
    return [
        {
            "row": int(predictions.rows[index]),
            "true": int(predictions.labels[index]),
            "predicted": int(predicted[index]),
            "probability": round(float(predictions.probabilities[index, predicted[index]]), 6),
            "of_true": round(float(predictions.probabilities[index, predictions.labels[index]]), 6),
        }
        for index in chosen
    ]


def surest_right(predictions: Predictions) -> int | None:
    """The position of the example that the model is surest about and right; None where it is never right."""
    right = np.flatnonzero(predictions.predicted == predictions.labels)
    if not len(right):
        return None
    sure = predictions.probabilities[right, predictions.labels[right]]
    return int(right[np.argmax(sure)])
