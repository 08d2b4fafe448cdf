"""Test accuracy of recipes: seed 0, chosen before, and the spread over 3 seeds.

usage: uv run python tests/benchmarks/accuracy.py --data FOLDER [--recipes NAME…] [--seeds 0 1 2]
FOLDER holds the original files of the datasets: mnist/, fashion-mnist/, cifar-10-batches-py/. Without it they are fetched.
"""

import argparse
from pathlib import Path

from common import heading, import_dataset, scratch_store, table, train

GOALS = {"cnn-mnist": 0.992, "lenet5-mnist": 0.990, "dense-mnist": 0.975, "cnn-fashion": 0.920, "cnn-cifar10": 0.74}
SOURCES = {"mnist": "mnist", "fashion-mnist": "fashion-mnist", "cifar10": "cifar-10-batches-py"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--store", default=None)
    parser.add_argument("--recipes", nargs="+", default=list(GOALS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    heading("test accuracy")
    store = options.store or scratch_store()
    for name, folder in SOURCES.items():
        import_dataset(name, options.data / folder if options.data else None, store)
    rows: list[tuple[object, ...]] = [("recipe", "epochs", f"seed {options.seeds[0]}", "all seeds", "goal")]
    for recipe in options.recipes:
        runs = [train(recipe, store, f"seed={seed}", f"worker.cpus={options.threads}") for seed in options.seeds]
        reached = [run["metrics"]["test_accuracy"] for run in runs]
        print(recipe, reached, flush=True)
        spread = f"{min(reached):.4f} to {max(reached):.4f}"
        rows.append((recipe, runs[0]["epoch"], f"{reached[0]:.4f}", spread, GOALS.get(recipe, "")))
    table(rows)


if __name__ == "__main__":
    main()
