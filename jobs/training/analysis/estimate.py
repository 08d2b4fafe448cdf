"""How much memory each part of the analysis takes, estimated before it is made: a part that is too large is left out, not tried."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from jobs.training.analysis.filters import MOST_FILTERS, FirstLayer
from jobs.training.analysis.predictions import MOST_EXAMPLES, MOST_VALUES, batch_size
from jobs.training.analysis.states import recurrent_layers
from jobs.training.replica import Replica

SHARE = 0.25
"""Of a worker's memory, for each part: model, optimizer and data stay where they are meanwhile."""
FLOAT = 4
JUDGED, REMEMBERED, FIRST, STATES, ALL_REDUCE = "predictions", "memory", "first layer", "hidden states", "all-reduce"
_LACKS = {
    JUDGED: "what the model makes of the test examples, and the first layer",
    REMEMBERED: "what the model remembers of the test sequences",
    FIRST: "what the first layer sees",
    STATES: "what the recurrent layers hold",
    ALL_REDUCE: "the time of an all-reduce",
}


@dataclass(frozen=True)
class Budget:
    """What each part may take: SHARE of the memory of the worker that has the least, so that all leave out the same."""

    bytes: int
    note: Callable[[str, str], None]

    def holds(self, part: str, needed: int) -> bool:
        """Whether so much is there; else it is an event that names the part and both sizes."""
        if needed <= self.bytes:
            return True
        self.note(
            "left out of the analysis",
            f"the report will lack {_LACKS[part]}: it would take {size(needed)}, and a quarter of a worker's memory is {size(self.bytes)}",
        )
        return False


def agree_on_budget(replica: Replica, memory: int, rank: int, workers: int, note: Callable[[str, str], None]) -> Budget:
    """A quarter of the least memory that any worker has. Every worker takes part, with its own `memory` in bytes."""
    own = np.zeros(workers, np.float32)
    own[rank] = memory
    return Budget(int(SHARE * float(replica.sum_over_workers(own).min())), note)


def judged_bytes(count: int, classes: int, example_bytes: int, workers: int) -> int:
    """Of `predict`: the logits of a batch, in TensorFlow, as an array and twice in a softmax, and what is kept of all examples."""
    total = min(count, MOST_EXAMPLES)
    batch = batch_size(total, (classes,), workers)
    return batch * (4 * FLOAT * classes + 2 * example_bytes) + 100 * total


def remembered_bytes(count: int, steps: int, example_bytes: int, workers: int) -> int:
    """Of `remember`: logits gathered, chances in float64 with what exp and the rest need beside them, labels and what compares them."""
    total = min(count, MOST_EXAMPLES, max(1, MOST_VALUES // steps))
    batch = batch_size(total, (steps, 1), workers)
    return total * steps * (4 * FLOAT + 3 * 8 + 4) + batch * (3 * FLOAT * steps + 2 * example_bytes)


def first_layer_bytes(first: FirstLayer) -> int:
    """Of the pictures of filters, each weight three times at once, and of one example's activations, in TensorFlow and as an array."""
    shape = first.layer.output.shape[1:]
    shown = _product(first.layer.kernel.shape[:-1]) * min(MOST_FILTERS, first.filters)
    return 3 * FLOAT * shown + 3 * FLOAT * _product(shape)


def states_bytes(model: keras.Model) -> int:
    """Of the recurrent layers' states for one example: in TensorFlow as a list of steps and together, and as an array."""
    return sum(
        3 * FLOAT * _product(layer.input.shape[1:2]) * int(getattr(layer, "units", 0)) for layer in recurrent_layers(model)
    )


def all_reduce_bytes(model: keras.Model, workers: int) -> int:
    """Of the all-reduce that is timed: as many values as gradients, once made, copied, packed, summed and divided."""
    return 0 if workers == 1 else 5 * FLOAT * sum(_product(variable.shape) for variable in model.trainable_variables)


def _product(shape: Any) -> int:
    """Values of that shape; an open size counts as one, for it is one example's."""
    return math.prod(int(size or 1) for size in shape)


def size(count: int) -> str:
    """Bytes as people read them."""
    unit, name = next(((unit, name) for unit, name in ((2**30, "GiB"), (2**20, "MiB")) if count >= unit), (2**10, "KiB"))
    return f"{count / unit:,.1f} {name}"
