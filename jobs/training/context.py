"""What one worker holds during an attempt."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from jobs.artifacts.checkpoints import CheckpointStore
from jobs.datasets.load import Arrays
from jobs.target_space.space import Space
from jobs.training.evaluation import Evaluator
from jobs.training.examples import Examples
from jobs.training.place import Place
from jobs.training.replica import Replica
from service.records.run_record import RunRecord
from service.specs.train import TrainSpec


@dataclass
class WorkerContext:
    """What one worker holds during an attempt."""

    spec: TrainSpec
    place: Place
    record: RunRecord
    checkpoints: CheckpointStore
    examples: Examples
    strategy: tf.distribute.Strategy
    replica: Replica
    space: Space
    """What this run's optimizer works in; runs that train together lend each other the replica, but each has its own."""
    first_outputs: np.ndarray | None = None
    """What the model gave for two examples of zeros, before its first weights were put into it."""

    @property
    def arrays(self) -> Arrays:
        """The run's data."""
        return self.examples.arrays

    def evaluator(self, split: str, rows: np.ndarray) -> Evaluator:
        """Evaluates `rows` of what holds the `validation` examples, or of the `test` arrays, shared out over the workers."""
        features, labels = self.arrays.held_out if split == "validation" else (self.arrays.test, self.arrays.test_labels)
        return Evaluator(self.replica, features, labels, rows, self.place.rank, self.place.workers)
