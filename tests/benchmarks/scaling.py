"""Examples a second: 2 workers of 1 thread against 1 worker of 2 threads, the lecture's CNN on MNIST-shaped images.

usage: uv run python tests/benchmarks/scaling.py [--steps 120] [--rounds 3] [--batches 128 256]
"""

import argparse

from common import examples_per_second, heading, make_noise, median_ratio, scratch_store, train


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 256])
    options = parser.parse_args()
    store = scratch_store()
    make_noise(store, 20_000)
    for batch in options.batches:
        heading(f"examples a second, cnn-mnist, global batch {batch}")
        keys = [
            "dataset=noise",
            f"batch={batch}",
            f"steps={options.steps}",
            "log_every=20",
            "evaluate.validation=0",
            "augment=[]",
        ]

        def rate(workers: int, cpus: int, keys: list[str] = keys) -> float:
            return examples_per_second(train("cnn-mnist", store, *keys, f"worker.cpus={cpus}", workers=workers), skip_rows=2)

        median_ratio(
            lambda: rate(2, 1),
            lambda: rate(1, 2),
            options.rounds,
            "examples/s",
            ("2 workers of 1 thread", "1 worker of 2 threads"),
        )


if __name__ == "__main__":
    main()
