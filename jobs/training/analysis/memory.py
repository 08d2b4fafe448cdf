"""What a network remembers of test sequences: which bits are right, at which step."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.training.analysis.predictions import ask
from jobs.training.replica import Replica
from service.records.run_record import Document

SHOWN = 12
"""Test sequences in the picture."""
MOST_STEPS = 512
"""Of each (assumed: the pixels of a page's width)."""
NOT_COUNTED = 255
"""Where a step does not count, in the picture of the targets."""


@dataclass(frozen=True)
class Memory:
    """`rows` of the test split with `labels` [n, steps], -1 where a step does not count, and the `chances` [n, steps] of a 1."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int32]
    chances: NDArray[np.float32]

    def document(self) -> Document:
        """Numbers of bits, and `by_step`: the accuracy at each step, None where no sequence counts."""
        counted = self.labels >= 0
        right = ((self.chances > 0.5) == (self.labels > 0)) & counted
        by_step = [round(float(r / n), 6) if n else None for r, n in zip(right.sum(0), counted.sum(0), strict=True)]
        return {
            "sequences": len(self.rows),
            "bits": int(counted.sum()),
            "right": int(right.sum()),
            "by_step": by_step,
            "shown": [int(row) for row in self.rows[:SHOWN]],
        }

    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """Of the first sequences, [sequences, steps]: `memory-targets`, 0, 1 or NOT_COUNTED, and `memory-outputs`, the chance of a 1."""
        labels, chances = self.labels[:SHOWN, :MOST_STEPS], self.chances[:SHOWN, :MOST_STEPS]
        targets = np.where(labels < 0, NOT_COUNTED, labels).astype(np.uint8)
        # 128 and more is read as a 1.
        outputs = np.where(chances > 0.5, np.ceil(127 + 128 * (2 * chances - 1)), np.floor(254 * chances))
        return {"memory-targets": targets, "memory-outputs": np.clip(outputs, 0, 255).astype(np.uint8)}


def remember(
    replica: Replica, features: Mapping[str, NDArray[np.generic]], labels: NDArray[np.int32], rank: int, workers: int
) -> Memory:
    """Ask the model about as many test sequences as time allows. Every worker takes part."""
    steps = labels.shape[1]

    def keep(rows: NDArray[np.int64], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        return logits.reshape(len(rows), steps)

    rows, logits = ask(replica, features, len(labels), (steps, 1), (steps, keep), rank, workers)
    chances = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -60, 60)))
    return Memory(rows, np.asarray(labels[rows]), chances.astype(np.float32))
