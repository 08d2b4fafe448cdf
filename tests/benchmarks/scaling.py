"""Examples a second: 2 workers of 1 thread against 1 worker of 2 threads, the lecture's CNN on MNIST-shaped images.

usage: uv run python tests/benchmarks/scaling.py [--steps 120] [--rounds 3] [--batches 128 256]
"""

import argparse
from pathlib import Path

import numpy as np
from common import delayline, examples_per_second, heading, median_ratio, scratch_store, train


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 256])
    options = parser.parse_args()
    store = scratch_store()
    make_images(store)
    for batch in options.batches:
        heading(f"examples a second, cnn-mnist, global batch {batch}")
        keys = ["dataset=noise", f"batch={batch}", f"steps={options.steps}", "log_every=20", "evaluate.validation=0"]

        def rate(workers: int, cpus: int, keys: list[str] = keys) -> float:
            return examples_per_second(train("cnn-mnist", store, *keys, f"worker.cpus={cpus}", workers=workers), skip_rows=2)

        median_ratio(
            lambda: rate(2, 1),
            lambda: rate(1, 2),
            options.rounds,
            "examples/s",
            ("2 workers of 1 thread", "1 worker of 2 threads"),
        )


def make_images(store: str) -> None:
    """A dataset of MNIST's shapes: its content does not matter to the speed."""
    generator = np.random.default_rng(0)
    file = Path(store) / "noise.npz"
    arrays = {
        "x_train": generator.integers(0, 256, (20_000, 28, 28, 1), dtype=np.uint8),
        "y_train": generator.integers(0, 10, 20_000),
        "x_test": generator.integers(0, 256, (256, 28, 28, 1), dtype=np.uint8),
        "y_test": generator.integers(0, 10, 256),
    }
    np.savez(file, **arrays)
    delayline("data", "import", "noise", "--from", str(file), "--format", "npz", store=store)


if __name__ == "__main__":
    main()
