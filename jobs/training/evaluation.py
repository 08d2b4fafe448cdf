"""Loss and metrics of a whole split, shared out over the workers."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.datasets.reading import example_bytes, open_reader
from jobs.liveness import longer, tick
from jobs.training.batches import Arrays
from jobs.training.replica import Replica

BATCH = 64
"""Examples a worker evaluates at once. Measured on CIFAR-10: as fast as 256, with 150 MB less at the highest."""
BATCHES_A_CALL = 8
BYTES_A_CALL = 32 * 1024**2
"""Of large examples fewer batches a call (assumed, as in jobs.training.steps_per_execution)."""


@dataclass
class Evaluator:
    """Evaluates the examples `rows` of the arrays; worker `rank` of `workers` takes every `workers`-th."""

    replica: Replica
    features: Arrays
    labels: NDArray[np.int32]
    rows: NDArray[np.int64]
    rank: int
    workers: int
    _built: bool = False

    def evaluate(self) -> dict[str, float]:
        """Return the means over all examples of `loss` and each metric of the task, and the further metrics that the spec asks for."""
        names = ("loss", *self.replica.metric_names)
        width = len(names) + 1
        totals = np.zeros(width + self.replica.extra.width, np.float64)
        for features, labels, weights in self._calls():
            if not self._built:
                longer()
            totals += self.replica.evaluate(features, labels, weights).astype(np.float64)
            self._built = True
            tick()
        means = {name: float(total / totals[width - 1]) for name, total in zip(names, totals, strict=False)}
        return {**means, **self.replica.extra.results(totals[width:])}

    def _calls(self) -> Iterator[tuple[dict[str, NDArray[np.generic]], NDArray[np.int32], NDArray[np.float32]]]:
        # Every worker makes the same number of calls of the same shape; what is missing is padded and weighs nothing.
        share = -(-len(self.rows) // self.workers)
        mine = self.rows[self.rank :: self.workers]
        batch = min(BATCH, max(1, share))
        batches = -(-share // batch)
        padding = batches * batch - len(mine)
        padded = np.concatenate([mine, np.full(padding, self.rows[0], np.int64)]).reshape(batches, batch)
        weights = np.concatenate([np.ones(len(mine), np.float32), np.zeros(padding, np.float32)]).reshape(batches, batch)
        together = max(1, min(BATCHES_A_CALL, BYTES_A_CALL // (batch * example_bytes(self.features))))
        with contextlib.closing(open_reader(self.features, self.labels, iter([padded.reshape(-1)]))) as reader:
            for first in range(0, batches, together):
                chosen = padded[first : first + together]
                columns = reader.take(chosen.reshape(-1))
                shaped = {name: picked.reshape(*chosen.shape, *picked.shape[1:]) for name, picked in columns.items()}
                labels = shaped.pop("label")
                yield shaped, labels, weights[first : first + together]
