"""What the model says of test examples, gathered from all workers; which classes it confuses, and the worst mistakes."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.training.evaluation import BATCH
from jobs.training.replica import Replica
from service.records.run_record import Document

MOST_EXAMPLES = 10_000
"""Of a larger test split so many are taken, evenly spaced (assumed: an accuracy to half a percent or better)."""
MOST_VALUES = 5_000_000
"""Values in memory at once, logits of a batch or what is kept of all examples: 20 MB (assumed)."""
MOST_SECONDS = 20.0
"""For all predictions; a slow model is asked about fewer examples (assumed)."""
MISTAKES = 24

Floats = NDArray[np.float32]
Keep = Callable[[NDArray[np.int64], Floats], Floats]
"""What is kept of the logits [n, …] of these rows of the test split: [n, width]."""


@dataclass(frozen=True)
class Predictions:
    """`rows` of the test split, all [n]: the `labels`, the most probable class, its probability and that of the label.

    The same on all workers. Nothing here grows with the number of classes.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int32]
    predicted: NDArray[np.int64]
    probability: Floats
    of_true: Floats


def predict(
    replica: Replica,
    features: Mapping[str, NDArray[np.generic]],
    labels: NDArray[np.int32],
    classes: int,
    rank: int,
    workers: int,
) -> Predictions:
    """Ask the model about as many test examples as time allows. Every worker takes part."""

    def keep(rows: NDArray[np.int64], logits: Floats) -> Floats:
        return judgement(logits, np.asarray(labels[rows]))

    rows, kept = ask(replica, features, len(labels), (classes,), (3, keep), rank, workers)
    # A class's number is exact as a float32 up to 16 million.
    return Predictions(rows, np.asarray(labels[rows]), kept[:, 0].astype(np.int64), kept[:, 1], kept[:, 2])


def judgement(logits: Floats, labels: NDArray[np.int32]) -> Floats:
    """Of each example [n, 3]: the most probable class, its probability, and that of the label."""
    probabilities, each = softmax(logits), np.arange(len(labels))
    best = probabilities.argmax(axis=1)
    return np.stack([best.astype(np.float32), probabilities[each, best], probabilities[each, labels]], axis=1)


def batch_size(count: int, outputs: tuple[int, ...], workers: int) -> int:
    """Examples a worker is asked about at once, of `count` in all; as many as an evaluation takes, or fewer of many outputs."""
    return max(1, min(BATCH, MOST_VALUES // math.prod(outputs), -(-count // workers)))


def ask(
    replica: Replica,
    features: Mapping[str, NDArray[np.generic]],
    count: int,
    outputs: tuple[int, ...],
    kept: tuple[int, Keep],
    rank: int,
    workers: int,
) -> tuple[NDArray[np.int64], Floats]:
    """The numbers of as many of `count` examples as time allows, and what is kept of each, [n, width]; the same on all workers.

    `outputs` is the shape of an example's logits, `kept` the width and what makes so much of them. Every worker takes part,
    with the same number of calls.
    """
    width, keep = kept
    forward = replica.once(Replica.forward, replica.model)
    total = min(count, MOST_EXAMPLES, max(1, MOST_VALUES // width))
    batch = batch_size(total, outputs, workers)

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
    found = np.zeros((len(rows), width), np.float32)
    for index in range(calls):
        mine = np.arange(len(rows))[rank::workers][index * batch : (index + 1) * batch]
        found[mine] = keep(rows[mine], call(rows[mine]))
    # Each row is zero on all workers but one: the sum gathers them.
    gathered = replica.sum_over_workers(found.reshape(-1)).reshape(found.shape)
    return rows, gathered


def evenly_spaced(count: int, wanted: int) -> NDArray[np.int64]:
    """`wanted` of the numbers below `count`, ascending, each once: a split sorted by class is met in all its classes."""
    return (np.arange(wanted, dtype=np.int64) * count) // max(wanted, 1)


def softmax(logits: Floats) -> Floats:
    """Probabilities over the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), np.float32)


def pairs(predictions: Predictions) -> list[list[int]]:
    """How many examples of a class were predicted as a class, [true, predicted, count], for each pair that occurs, in order."""
    found = Counter(zip(predictions.labels.tolist(), predictions.predicted.tolist(), strict=True))
    return [[true, predicted, found[true, predicted]] for true, predicted in sorted(found)]


def mistakes(predictions: Predictions, most: int = MISTAKES) -> list[Document]:
    """The mistakes of which the model was surest: `row` of the test split, `true`, `predicted`, both probabilities."""
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    chosen = wrong[np.argsort(-predictions.probability[wrong], kind="stable")][:most]
    return [
        {
            "row": int(predictions.rows[index]),
            "true": int(predictions.labels[index]),
            "predicted": int(predictions.predicted[index]),
            "probability": round(float(predictions.probability[index]), 6),
            "of_true": round(float(predictions.of_true[index]), 6),
        }
        for index in chosen
    ]


def surest_right(predictions: Predictions) -> int | None:
    """The position of the example that the model is surest about and right; None where it is never right."""
    right = np.flatnonzero(predictions.predicted == predictions.labels)
    return int(right[np.argmax(predictions.probability[right])]) if len(right) else None
