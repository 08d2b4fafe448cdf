"""Test accuracy on the digits after 50 labelled examples: from nothing, and from a network that learned MNIST or Fashion-MNIST.

usage: uv run python tests/benchmarks/transfer_learning.py --data FOLDER [--seeds 0 1 2 3 4] [--examples 50]
FOLDER holds the original files: mnist/, fashion-mnist/. Without it they are fetched. A seed draws the examples, the first
weights and the order; the runs to start from have seed 0.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from common import delayline, heading, import_dataset, scratch_store, table, train

BASES = {"MNIST": "mnist", "Fashion-MNIST": "fashion-mnist"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--store", default=None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--examples", type=int, default=50)
    options = parser.parse_args()
    heading(f"test accuracy on 360 digits after {options.examples} labelled ones, seeds {options.seeds}")
    store = options.store or scratch_store()
    variants = {"from nothing": ("init_from=null",)}
    for name, dataset in BASES.items():
        base = learned(dataset, options.data, store)
        variants[f"from {name}"] = (f"init_from={base}",)
        variants[f"from {name}, convolutions frozen"] = (f"init_from={base}", "freeze=c*")
    reached = {name: accuracies(keys, options.seeds, options.examples, store, name) for name, keys in variants.items()}
    nothing = reached["from nothing"]
    rows: list[tuple[object, ...]] = [("start", f"seed {options.seeds[0]}", "mean", "spread", "gain, seed by seed")]
    for name, values in reached.items():
        gains = [value - other for value, other in zip(values, nothing, strict=True)]
        gain = "" if values is nothing else f"{statistics.mean(gains):+.4f} ({min(gains):+.4f} to {max(gains):+.4f})"
        rows.append((name, f"{values[0]:.4f}", f"{statistics.mean(values):.4f}", f"{min(values):.4f} to {max(values):.4f}", gain))
    table(rows)


def learned(dataset: str, data: Path | None, store: str) -> str:
    """Train LeNet-5 on a dataset, once in a store; return the run's id."""
    import_dataset(dataset, data / dataset if data else None, store)
    name = f"lenet5-{dataset}"
    run = delayline("train", "lenet5-mnist", "-s", f"dataset={dataset}", "--name", name, "--json", store=store)
    print(f"{name}: test accuracy {run['metrics']['test_accuracy']:.4f}", flush=True)
    return name


def accuracies(keys: Sequence[str], seeds: Sequence[int], examples: int, store: str, name: str) -> list[float]:
    """The test accuracy of the recipe with each seed."""
    values = []
    for seed in seeds:
        run = train("transfer-digits", store, f"seed={seed}", f"training_examples={examples}", *keys)
        values.append(float(run["metrics"]["test_accuracy"]))
    print(name, [f"{value:.4f}" for value in values], flush=True)
    return values


if __name__ == "__main__":
    main()
