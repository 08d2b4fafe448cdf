"""Which examples form each global batch: a function of (seed, epoch) alone, never of the number of workers."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidInput

Indices = NDArray[np.int64]
Arrays = Mapping[str, NDArray[np.generic]]

# The epoch is the second key word of Philox; these are no epochs that a run reaches.
_SPLIT_STREAM = 2**63
_CHOICE_STREAM = 2**63 + 1


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)))


def permutation(seed: int, epoch: int, count: int) -> Indices:
    """The order of `count` examples in an epoch, made by a counter-based generator (Philox, Salmon et al. 2011)."""
    return _generator(seed, epoch).permutation(count).astype(np.int64)


def split_validation(seed: int, count: int, share: float) -> tuple[Indices, Indices]:
    """Split `count` examples into (training, validation) indices, each in ascending order."""
    held_out = round(count * share)
    order = _generator(seed, _SPLIT_STREAM).permutation(count).astype(np.int64)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def choose_examples(seed: int, rows: Indices, labels: NDArray[np.int32], count: int) -> Indices:
    """`count` of the examples `rows`, as many of each class as its share in them is, in ascending order.

    `labels` [examples] are those of the whole split. What is chosen of fewer is part of what is chosen of more.
    """
    shuffled = rows[_generator(seed, _CHOICE_STREAM).permutation(len(rows))]
    # The i-th of a class's n examples stands at (i + 1/2)/n: the first k of all of them have each class in proportion.
    place = np.empty(len(shuffled))
    for label in np.unique(labels[shuffled]):
        members = np.flatnonzero(labels[shuffled] == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(shuffled[np.argsort(place, kind="stable")[:count]])


@dataclass(frozen=True)
class BatchPlan:
    """The batches of a run as one worker sees them.

    `examples` are the training indices; each epoch has `steps_per_epoch` whole global batches, what is left over is
    part of another epoch's permutation. Worker `rank` of `workers` takes an equal, contiguous slice of each.
    """

    examples: Indices
    batch: int
    seed: int
    rank: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if self.batch > len(self.examples):
            raise InvalidInput(
                f"A batch of {self.batch} is larger than the {len(self.examples)} training examples: "
                f"use a batch of at most {len(self.examples)}."
            )

    @property
    def steps_per_epoch(self) -> int:
        return len(self.examples) // self.batch

    @property
    def local_batch(self) -> int:
        return self.batch // self.workers

    def epoch_order(self, epoch: int) -> Indices:
        """All training examples in the order of an epoch."""
        return self.examples[permutation(self.seed, epoch, len(self.examples))]

    def indices(self, step: int, count: int, order: Indices | None = None) -> Indices:
        """Examples of this worker for `count` steps from global `step`, all in one epoch: [count, local batch].

        `order` spares making the epoch's order again.
        """
        epoch, offset = divmod(step, self.steps_per_epoch)
        order = self.epoch_order(epoch) if order is None else order
        whole = order[offset * self.batch : (offset + count) * self.batch].reshape(-1, self.batch)
        return whole[:, self.rank * self.local_batch : (self.rank + 1) * self.local_batch]


class Augmenter(Protocol):
    """Changes images; the same change for the same (epoch, example), whatever batch it is in."""

    def apply(self, images: NDArray[np.uint8], epoch: int, examples: Indices) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Chunk:
    """The inputs of `count` steps: features [count, local batch, …] by name, and labels [count, local batch]."""

    features: dict[str, NDArray[np.generic]]
    labels: NDArray[np.int32]


class BatchFeeder:
    """Gathers chunks out of arrays in a thread, one chunk ahead of the step that asks for it."""

    def __init__(self, plan: BatchPlan, features: Arrays, labels: NDArray[np.int32], augmenter: Augmenter | None) -> None:
        self._plan = plan
        self._features = features
        self._labels = labels
        self._augmenter = augmenter
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead: tuple[tuple[int, int], Future[Chunk]] | None = None
        self._order: tuple[int, Indices] | None = None

    def prepare(self, step: int, count: int) -> None:
        """Start to gather the chunk that will be asked for next."""
        if count > 0:
            self._ahead = ((step, count), self._pool.submit(self._gather, step, count))

    def take(self, step: int, count: int) -> Chunk:
        """The chunk of `count` steps from `step`."""
        if self._ahead and self._ahead[0] == (step, count):
            return self._ahead[1].result()
        return self._pool.submit(self._gather, step, count).result()

    def close(self) -> None:
        """Stop the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _gather(self, step: int, count: int) -> Chunk:
        plan = self._plan
        epoch = step // plan.steps_per_epoch
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, plan.epoch_order(epoch))
        chosen = plan.indices(step, count, self._order[1])
        flat = chosen.reshape(-1)
        features = {
            name: self._pick(array, flat, epoch).reshape(*chosen.shape, *array.shape[1:])
            for name, array in self._features.items()
        }
        return Chunk(features, self._labels[flat].reshape(chosen.shape))

    def _pick(self, array: NDArray[np.generic], examples: Indices, epoch: int) -> NDArray[np.generic]:
        picked = array[examples]
        if self._augmenter is not None and picked.dtype == np.uint8 and picked.ndim == 4:
            return self._augmenter.apply(picked.view(np.uint8), epoch, examples)
        return picked
