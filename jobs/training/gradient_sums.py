"""Sums of gradients over the workers, in a few packs: latency, not bytes, is what small networks wait for."""

import time
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

PACKS = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=512 * 1024)
"""How TensorFlow packs what is summed: last gradients first, in packs of at least this size, which are sent while others are computed.

The size was measured with `tests/benchmarks/allreduce.py`. Given at the call, for there a strategy's own options are not looked at.
"""


def sum_gradients(gradients: list[Any]) -> list[Any]:
    """The sums over all workers; to be called in a replica context of more than one.

    In float32, or in float64 where a gradient has that: one worker too rounds to a smaller type only what is the whole.
    """
    kind = tf.float64 if any(gradient.dtype == tf.float64 for gradient in gradients) else tf.float32
    wide = [tf.cast(gradient, kind) for gradient in gradients]
    summed = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, wide, PACKS)
    return [tf.cast(total, gradient.dtype) for total, gradient in zip(summed, gradients, strict=True)]


def all_reduce_seconds(strategy: tf.distribute.Strategy, shapes: Sequence[tuple[int, ...]], repeats: int) -> float:
    """Seconds that one sum over the workers of values of these shapes takes, while nothing else runs; 0 for one worker."""
    workers = strategy.num_replicas_in_sync
    if workers == 1:
        return 0.0

    def again(values: list[Any]) -> list[Any]:
        # Each sum needs the one before: sums that run at once could be matched with each other's on another worker.
        return [value / workers for value in sum_gradients([tf.identity(value) for value in values])]

    @tf.function
    def sums(count: Any) -> Any:
        values = [tf.ones(shape) for shape in shapes]
        for _ in tf.range(count):
            values = [strategy.experimental_local_results(value)[0] for value in strategy.run(again, args=(values,))]
        return tf.add_n([tf.reduce_sum(value) for value in values])

    sums(tf.constant(2)).numpy()
    began = time.monotonic()
    sums(tf.constant(repeats)).numpy()
    return (time.monotonic() - began) / repeats
