"""Which examples form each global batch: a function of the dataset and (seed, epoch), never of the number of workers.

Up to jobs.datasets.layout.WINDOW_BYTES an epoch is one random permutation of all examples. Beyond, where reading single
examples from all over the data would be slow, it is a shuffle in two steps: the shards are permuted and cut into windows of
about that size, and within a window all examples are permuted. So every window holds shards from all over the dataset,
every example is met once an epoch, and one window has to be in the cache at a time. The rule looks at the
dataset alone, not at how it is read: from memory and streamed the batches are the same.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jobs.datasets.layout import Layout
from jobs.datasets.reading import Indices, Reader, open_reader
from service.errors import InvalidInput

Arrays = Mapping[str, NDArray[np.generic]]

# The epoch is the second key word of Philox; these are no epochs that a run reaches.
_SPLIT_STREAM = 2**63
_CHOICE_STREAM = 2**63 + 1


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)))


def permutation(seed: int, epoch: int, count: int) -> Indices:
    """The order of `count` examples in an epoch, made by a counter-based generator (Philox, Salmon et al. 2011)."""
    return _generator(seed, epoch).permutation(count).astype(np.int64)


def windowed_permutation(seed: int, epoch: int, examples: Indices, layout: Layout) -> Indices:
    """The order of an epoch of `examples` (ascending) that is shuffled window by window; made like `permutation`."""
    generator = _generator(seed, epoch)
    shards = np.split(examples, np.searchsorted(examples, layout.ends[:-1]))
    windows = np.array_split(generator.permutation(len(shards)), layout.windows)
    order = []
    for window in windows:
        together = np.concatenate([shards[shard] for shard in window] or [examples[:0]])
        order.append(together[generator.permutation(len(together))])
    return np.concatenate(order)


def split_validation(seed: int, count: int, share: float) -> tuple[Indices, Indices]:
    """Split `count` examples into (training, validation) indices, each in ascending order."""
    held_out = round(count * share)
    order = _generator(seed, _SPLIT_STREAM).permutation(count).astype(np.int64)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def choose_examples(seed: int, rows: Indices, labels: NDArray[np.int32], count: int) -> Indices:
    """`count` of the examples `rows`, as many of each class as its share in them is, in ascending order.

    `labels` [examples] are those of the whole split; examples with a label at each step [examples, steps] have no class.
    A smaller choice is part of a larger one.
    """
    shuffled = rows[_generator(seed, _CHOICE_STREAM).permutation(len(rows))]
    if labels.ndim > 1:
        return np.sort(shuffled[:count])
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
    Without a `layout` an epoch is one permutation, however large the data.
    """

    examples: Indices
    batch: int
    seed: int
    rank: int = 0
    workers: int = 1
    layout: Layout | None = None

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
        if self.layout is not None and self.layout.windows > 1:
            return windowed_permutation(self.seed, epoch, self.examples, self.layout)
        return self.examples[permutation(self.seed, epoch, len(self.examples))]

    def indices(self, step: int, count: int, order: Indices | None = None) -> Indices:
        """Examples of this worker for `count` steps from global `step`, all in one epoch: [count, local batch].

        `order` spares making the epoch's order again.
        """
        epoch, offset = divmod(step, self.steps_per_epoch)
        order = self.epoch_order(epoch) if order is None else order
        whole = order[offset * self.batch : (offset + count) * self.batch].reshape(-1, self.batch)
        return whole[:, self.rank * self.local_batch : (self.rank + 1) * self.local_batch]

    def orders_from(self, step: int) -> Iterator[Indices]:
        """All examples of this worker from global `step` on, epoch after epoch without end, each flat in its order."""
        while True:
            left = self.steps_per_epoch - step % self.steps_per_epoch
            yield self.indices(step, left).reshape(-1)
            step += left


class Augmenter(Protocol):
    """Changes images; the same change for the same (epoch, example), whatever batch it is in."""

    def apply(self, images: NDArray[np.uint8], epoch: int, examples: Indices) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Chunk:
    """The inputs of `count` steps: features [count, local batch, …] by name, and labels [count, local batch], or [… , steps]."""

    features: dict[str, NDArray[np.generic]]
    labels: NDArray[np.int32]


class BatchFeeder:
    """Gathers chunks out of arrays, or out of a stream, in a thread, one chunk ahead of the step that asks for it."""

    def __init__(
        self,
        plan: BatchPlan,
        features: Arrays,
        labels: NDArray[np.int32],
        augmenter: Augmenter | None,
        check: Callable[[Mapping[str, NDArray[np.generic]], Indices], None] = lambda columns, examples: None,
    ) -> None:
        """`check` is called with the columns that were read and the examples' numbers; it raises for wrong ones."""
        self._check = check
        self._plan = plan
        self._features = features
        self._labels = labels
        self._augmenter = augmenter
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead: tuple[tuple[int, int], Future[Chunk]] | None = None
        self._order: tuple[int, Indices] | None = None
        self._reader: tuple[int, Reader] | None = None

    def prepare(self, step: int, count: int) -> None:
        """Begin to gather the chunk that `take` will be asked for next."""
        if count > 0:
            self._ahead = ((step, count), self._pool.submit(self._gather, step, count))

    def take(self, step: int, count: int) -> Chunk:
        """Return the chunk of `count` steps from `step`, gathered now unless it was prepared."""
        if self._ahead and self._ahead[0] == (step, count):
            return self._ahead[1].result()
        return self._pool.submit(self._gather, step, count).result()

    def close(self) -> None:
        """Stop the thread, and the stream if there is one."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._reader is not None:
            self._reader[1].close()

    def _gather(self, step: int, count: int) -> Chunk:
        plan = self._plan
        epoch = step // plan.steps_per_epoch
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, plan.epoch_order(epoch))
        chosen = plan.indices(step, count, self._order[1])
        flat = chosen.reshape(-1)
        reader = self._reader_at(step)
        columns = reader.take(flat)
        self._check(columns, flat)
        self._reader = (step + count, reader)
        labels = columns.pop("label")
        features = {
            name: self._augment(picked, flat, epoch).reshape(*chosen.shape, *picked.shape[1:]) for name, picked in columns.items()
        }
        return Chunk(features, labels.reshape(*chosen.shape, *labels.shape[1:]))

    def _reader_at(self, step: int) -> Reader:
        """The reader at `step`: a stream that is elsewhere is opened anew."""
        if self._reader is None or self._reader[0] != step:
            if self._reader is not None:
                self._reader[1].close()
            orders, epoch = self._plan.orders_from(step), step // self._plan.steps_per_epoch
            self._reader = (step, open_reader(self._features, self._labels, orders, epoch))
        return self._reader[1]

    def _augment(self, picked: NDArray[np.generic], examples: Indices, epoch: int) -> NDArray[np.generic]:
        if self._augmenter is not None and picked.dtype == np.uint8 and picked.ndim == 4:
            return self._augmenter.apply(picked.view(np.uint8), epoch, examples)
        return picked
