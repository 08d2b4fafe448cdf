"""Whether what was exported answers as the run's own model does, on examples of the run's test split."""

from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from jobs.datasets.load import Columns, load_test_split, scaled
from jobs.inference.finished_run import FinishedRun
from jobs.inference.formats import Answers, answers_of
from jobs.tasks.registry import task_for
from service.datasets import Cache
from service.errors import Damaged, UserFailure
from service.records.run_record import Document
from service.settings import Settings

EXAMPLES = 2000
"""At most so many of the test split, evenly spread (assumed: seconds; a wrong conversion shows in the first few)."""
BATCH = 250
TOLERANCE = 1e-3
"""Of the examples, at least one: so many may be judged otherwise, for other kernels round otherwise (assumed)."""


@dataclass(frozen=True)
class Judged:
    """The task's metrics of each example, [examples] by name, and its predicted class, [examples], or [examples, steps]."""

    values: Mapping[str, NDArray[np.float32]]
    classes: NDArray[np.int64]

    def otherwise(self, other: "Judged") -> int:
        """How many examples are judged otherwise; of an example with steps the share of them that are."""
        differs = self.classes != other.classes
        if differs.ndim > 1:
            return int(np.ceil(np.sum(np.mean(differs, axis=1))))
        for name, each in self.values.items():
            differs |= each != other.values[name]
        return int(np.sum(differs))

    def means(self) -> dict[str, float]:
        """`test_accuracy` and so on."""
        return {f"test_{name}": float(np.mean(each)) for name, each in self.values.items()}


class Examiner:
    """Holds the examples and what the run's own model says of them."""

    def __init__(self, run: FinishedRun, model: keras.Model, settings: Settings) -> None:
        cache = Cache(settings.cache / "datasets", settings.cache_bytes)
        columns = load_test_split(run.spec, run.record.store, run.dataset, cache)
        labels = columns.pop("label")
        self.total = len(labels)
        rows = np.unique(np.linspace(0, self.total - 1, min(EXAMPLES, self.total)).astype(np.int64))
        self.examples = len(rows)
        self._labels = np.asarray(labels[rows], np.int32)
        self._features: Columns = scaled({name: array[rows] for name, array in columns.items()}, run.dataset.features)
        self._task = task_for(run.spec)
        self._run = run
        self._own = self._judge(answers_of(model))
        self._check_record()

    @property
    def metrics(self) -> dict[str, float]:
        """Those of the run's own model on these examples."""
        return self._own.means()

    def examine(self, name: str, answers: Answers) -> Document:
        """The metrics of an exported form; raise UserFailure where they are not the run's own."""
        judged = self._judge(answers)
        other = judged.otherwise(self._own)
        if other > max(1, TOLERANCE * self.examples):
            theirs, mine = _shown(judged), _shown(self._own)
            raise UserFailure(
                f"The exported {name} model gives {theirs} where the run's own gives {mine}, and judges {other} of {self.examples} examples "
                "otherwise: nothing was written; export another format."
            )
        return judged.means()

    def _judge(self, answers: Answers) -> Judged:
        parts, classes = [], []
        for first in range(0, self.examples, BATCH):
            batch = {name: array[first : first + BATCH] for name, array in self._features.items()}
            labels = self._labels[first : first + BATCH]
            logits = answers(batch)
            classes.append(self._task.decisions(logits))
            metrics = self._task.metrics(labels, logits)
            parts.append({name: np.asarray(value) for name, value in metrics.items()})
        return Judged(
            {name: np.concatenate([part[name] for part in parts]) for name in self._task.metric_names}, np.concatenate(classes)
        )

    def _check_record(self) -> None:
        """On the whole split the model must also give what the run noted at its end."""
        noted = self._run.state.metrics
        for name, value in self.metrics.items():
            allowed = max(1.5 / self.examples, TOLERANCE)
            ended = noted.get(name)
            if self.examples == self.total and isinstance(ended, int | float) and abs(value - ended) > allowed:
                raise Damaged(
                    f"The model in the store gives {name} {value:.4f}, but the run ended with {ended:.4f}: "
                    "its model or its dataset was changed since; restore them, or export with --no-check."
                )


def _shown(judged: Judged) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in judged.means().items())
