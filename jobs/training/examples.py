"""The data of a run as one worker sees them: loaded, checked, divided into batches and what is held out, weighted."""

from dataclasses import dataclass, field

import numpy as np

from jobs.datasets.load import Arrays, load_arrays
from jobs.tasks.registry import Task
from jobs.training.batches import BatchPlan, choose_examples, split_validation
from jobs.training.example_weights import ExampleWeights, check_weights, make_weights
from jobs.training.intervals import Intervals
from jobs.training.place import Place
from service.records.run_record import RunRecord
from service.specs.train import TrainSpec


@dataclass(frozen=True)
class Examples:
    """A run's data, and how it is divided: batches of training examples by the plan, the rows that are held out."""

    arrays: Arrays
    plan: BatchPlan
    validation_rows: np.ndarray
    """Row numbers of `arrays.held_out`."""
    intervals: Intervals
    weights: ExampleWeights = field(default_factory=ExampleWeights)
    """How the training examples count in the loss."""


def load_examples(spec: TrainSpec, place: Place, record: RunRecord, task: Task) -> Examples:
    """Load the run's data and divide it; raise BadData for labels that the task cannot have."""
    arrays = load_arrays(
        spec, record.store, place.dataset_version, place.cache, place.cache_bytes, place.neighbours, task.check_labels
    )
    if not arrays.streamed:
        task.check_labels(arrays.train_labels, len(arrays.classes))
        task.check_labels(arrays.test_labels, len(arrays.classes))
        if arrays.validation_labels is not None:
            task.check_labels(arrays.validation_labels, len(arrays.classes))
    if arrays.validation_labels is not None:
        training_rows, _ = split_validation(spec.seed, len(arrays.train_labels), 0.0)
        validation_rows = np.arange(len(arrays.validation_labels))
    else:
        training_rows, validation_rows = split_validation(spec.seed, len(arrays.train_labels), spec.evaluate.validation)
    if spec.training_examples is not None:
        training_rows = choose_examples(spec.seed, training_rows, arrays.train_labels, spec.training_examples)
    plan = BatchPlan(training_rows, spec.batch, spec.seed, place.rank, place.workers, arrays.layout)
    weights = ExampleWeights(column=spec.sample_weight)
    if spec.class_weight is not None:
        weights = make_weights(spec, np.asarray(arrays.train_labels)[training_rows], arrays.classes)
    if spec.sample_weight is not None and not arrays.streamed:
        check_weights(spec.sample_weight, np.asarray(arrays.train[spec.sample_weight])[training_rows], training_rows)
    return Examples(arrays, plan, validation_rows, Intervals(spec, plan.steps_per_epoch), weights)
