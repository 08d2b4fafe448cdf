"""What the analysis of a run looks at."""

from collections.abc import Callable
from dataclasses import dataclass

from jobs.datasets.load import Arrays
from jobs.tasks.registry import Task, task_for
from jobs.training.analysis.filters import is_picture
from jobs.training.replica import Replica
from service.datasets import Feature
from service.records.run_record import Document, RunRecord
from service.specs.train import TrainSpec

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
    memory: int
    """Bytes that this worker has."""
    weights: str = ""
    """How training examples are weighted, in words."""

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


def short(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
