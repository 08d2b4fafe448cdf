"""Learning problems by name, one file each: `jobs/tasks/classification.py` has `make(spec) -> Task`."""

import importlib
import pkgutil
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.errors import UnknownName
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
        """The class that logits [examples, …, outputs] are taken for: [examples, …]."""

    def check_labels(self, labels: NDArray[np.int32], classes: int, examples: NDArray[np.int64] | None = None) -> None:
        """Raise BadData for a label that the task cannot have; `examples` are the labels' numbers, if not from 0 on."""


def task_for(spec: TrainSpec) -> Task:
    """The spec's task; raise UnknownName."""
    names = sorted(
        module.name.replace("_", "-")
        for module in pkgutil.iter_modules([str(Path(__file__).parent)])
        if module.name != "registry"
    )
    if spec.task.replace("_", "-") not in names:
        raise UnknownName(f"There is no task {spec.task[:80]!r}: use {' or '.join(names)}.")
    module = importlib.import_module(f"jobs.tasks.{spec.task.replace('-', '_')}")
    task: Task = module.make(spec)
    return task
