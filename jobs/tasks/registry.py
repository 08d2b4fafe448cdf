"""Learning problems by name, one file each: `jobs/tasks/classification.py` has `make(spec) -> Task`.

Before `make` it declares what a plan has to know of it: `METRICS`, and what else service.registry.Task lists.
"""

import importlib
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.errors import UnknownName
from service.registry import task_named, tasks
from service.specs.train import TrainSpec


class Task(Protocol):
    """Loss and metrics of each example of a batch."""

    metric_names: tuple[str, ...]
    every_step: bool
    """Whether each step of an example has a label and an answer of its own."""

    chance: float | None
    """The accuracy of guesses, where it is the same whatever the examples."""

    def outputs(self, classes: int) -> int:
        """How many logits an example has, or a step of it."""

    def losses(self, labels: Any, logits: Any) -> Any:
        """Float32 [batch], one number for each example."""

    def metrics(self, labels: Any, logits: Any) -> dict[str, Any]:
        """Float32 [batch] by name."""

    def decisions(self, logits: NDArray[np.float32]) -> NDArray[np.int64]:
        """The class that logits [examples, …, outputs] predict: [examples, …]."""

    def check_labels(self, labels: NDArray[np.int32], classes: int, examples: NDArray[np.int64] | None = None) -> None:
        """Raise BadData for a label that the task cannot have; `examples` are the labels' numbers, if not from 0 on."""


def task_for(spec: TrainSpec) -> Task:
    """The spec's task; raise UnknownName."""
    if task_named(spec.task) is None:
        raise UnknownName(f"There is no task {spec.task[:80]!r}: use {' or '.join(tasks())}.")
    module = importlib.import_module(f"jobs.tasks.{spec.task.replace('-', '_')}")
    task: Task = module.make(spec)
    return task
