"""What is known of a run before its first step: each worker's machine, the model's layers, the data."""

import hashlib
import json
from collections.abc import Iterable, Sequence

import numpy as np

from jobs.datasets.load import Arrays
from jobs.training.analysis.hardware import hardware, versions
from jobs.training.analysis.layers import layer_rows
from jobs.training.analysis.subject import Note, Subject, short
from service.records.run_record import Document, to_bytes

MOST_NAMED = 1000
"""Classes that a document names all of (assumed: some tens of kilobytes)."""


def describe_attempt(subject: Subject, note: Note) -> None:
    """Write what is known before the first step: each worker its machine, rank 0 the layers and the data."""
    record = subject.record
    try:
        document = {"attempt": subject.attempt, "rank": subject.rank, **hardware(), "cpus": subject.spec.worker.cpus}
        record.store.write(record.paths.hardware(subject.label, subject.rank), to_bytes(document))
        if subject.rank == 0:
            record.store.write(record.paths.model_facts(subject.label), to_bytes(_model_facts(subject)))
    except Exception as error:
        note("not described", f"the report will lack the model's layers: {short(error)}")


def _model_facts(subject: Subject) -> Document:
    model, arrays = subject.replica.model, subject.arrays
    return {
        "attempt": subject.attempt,
        "layers": layer_rows(model),
        "parameters": int(model.count_params()),
        "trained": int(sum(np.prod(variable.shape) for variable in model.trainable_variables)),
        "features": [
            {"name": f.name, "dtype": f.dtype, "shape": list(f.shape), "scale": f.divisor or 1.0} for f in arrays.features
        ],
        **named(arrays.classes),
        "chance": subject.task.chance,
        "weights": subject.weights,
        "counts": {**subject.counts, **({} if subject.task.every_step else _by_class(arrays))},
        "versions": versions(),
    }


def _by_class(arrays: Arrays) -> Document:
    counts = np.bincount(arrays.train_labels, minlength=len(arrays.classes))
    few = {"by_class": counts.tolist()} if len(counts) <= MOST_NAMED else {}
    return {**few, "fewest_of_a_class": int(counts.min()), "most_of_a_class": int(counts.max())}


def named(classes: Sequence[str], used: Iterable[int] = ()) -> Document:
    """The classes of a document: their number, what tells them from others, and their names; of many those of `used` alone."""
    digest = hashlib.sha256(json.dumps(list(classes)).encode()).hexdigest()
    document: Document = {"class_count": len(classes), "classes_sha256": digest}
    if len(classes) <= MOST_NAMED:
        return {**document, "classes": list(classes)}
    return {**document, "names": {str(number): classes[number] for number in sorted(set(used))}}
