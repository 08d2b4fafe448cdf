"""Forms the ring: TensorFlow's MultiWorkerMirroredStrategy, with a time limit that TensorFlow itself does not have."""

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

LOST_PEER_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
"""What a survivor raises when a peer is gone."""


def worker_addresses() -> list[str]:
    """The `host:port` of every worker of this attempt, by rank, from TF_CONFIG."""
    config = json.loads(os.environ.get("TF_CONFIG", "{}"))
    return list(config.get("cluster", {}).get("worker", []))


def limit_threads(cpus: float) -> None:
    """Give TensorFlow as many threads as the worker has cores; call it before any other TensorFlow operation."""
    threads = max(1, int(cpus))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    # One thread more than the kernels use: sending and receiving continue while a kernel computes.
    tf.config.threading.set_inter_op_parallelism_threads(threads + 1)


Guard = Callable[[str, float], AbstractContextManager[None]]
"""`guard(message, seconds)`: within it, this process is ended with `message` when it takes longer than `seconds`."""


def form_ring(workers: int, time_limit: float, guard: Guard) -> tf.distribute.Strategy:
    """Start TensorFlow's server in this worker, wait for all peers and return the strategy.

    One worker gets the default strategy, without collectives. TensorFlow waits for ever for a peer that does not appear:
    `guard` ends the process after `time_limit` seconds.
    """
    if workers == 1:
        return tf.distribute.get_strategy()
    message = (
        f"The ring of {workers} workers did not form within {time_limit:.0f} s: at least one of "
        f"{', '.join(worker_addresses())} did not start or cannot be reached; see its log, or set DELAYLINE_RING_TIMEOUT higher."
    )
    with guard(message, time_limit):
        gpus = tf.config.list_physical_devices("GPU")
        kind = tf.distribute.experimental.CommunicationImplementation
        options = tf.distribute.experimental.CommunicationOptions(implementation=kind.NCCL if gpus else kind.RING)
        strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
        _first_collective(strategy)
    return strategy


def _first_collective(strategy: tf.distribute.Strategy) -> None:
    """Add a one on every worker: it returns once all of them take part."""

    @tf.function
    def count() -> Any:
        return strategy.run(lambda: tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.ones(())))

    count()
