"""Milliseconds of one all-reduce between two workers on this machine, by size: where bytes begin to cost more than latency.

usage: uv run python tests/benchmarks/allreduce.py [--rounds 200]
`jobs.training.gradient_sums.PACKS` was chosen from it.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time

SIZES = [4 * 1024, 32 * 1024, 128 * 1024, 512 * 1024, 1024**2, 2 * 1024**2, 4 * 1024**2]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--rank", type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank is not None:
        worker(options.rank, options.rounds)
        return
    from common import heading

    heading("milliseconds of one all-reduce, 2 workers")
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    processes = []
    for rank in range(2):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        command = [sys.executable, __file__, "--rank", str(rank), "--rounds", str(options.rounds)]
        processes.append(
            subprocess.Popen(command, env={**os.environ, "TF_CONFIG": json.dumps(config), "TF_CPP_MIN_LOG_LEVEL": "3"})
        )
    for process in processes:
        process.wait(600)


def worker(rank: int, rounds: int) -> None:
    import tensorflow as tf

    from jobs.training.ring import form_ring, limit_threads

    limit_threads(1)
    strategy = form_ring(2, 60, lambda message, seconds: contextlib.nullcontext())

    @tf.function
    def reduce(value: tf.Tensor) -> tf.Tensor:
        return strategy.run(
            lambda: tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))
        )

    for size in SIZES:
        value, times = tf.ones([size // 4]), []
        for _ in range(rounds):
            began = time.perf_counter()
            reduce(value).numpy()
            times.append(1000 * (time.perf_counter() - began))
        if rank == 0:
            print(f"{size // 1024:5d} KiB: {statistics.median(times):.3f} ms", flush=True)


if __name__ == "__main__":
    main()
