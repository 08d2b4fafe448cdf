"""Which delays of the bit-sequence memoriser are solved, and how soon, in units of one epoch of Keras' `fit`.

usage: uv run python tests/benchmarks/delays.py [--kinds KIND…] [--delays 60 100 200] [--seeds 0 1 2] [--budget-epochs 100]
E is one epoch of `fit` of the lecture's convolutional network on 60,000 images of MNIST's shape, batch 128, measured first.
Recall, width delay + 3, fresh sequences each epoch; solved: more than 0.99 of the test bits are right. Training ends at 0.995
of the validation bits or at the budget; its seconds include compilation and evaluation. `target` begins at random targets, as the paper does;
`target-weights` at those that a scaled orthogonal network meets, and `simple-rnn-scaled` is that network in weight space. `lstm` and
`gru` begin with open gates, as such a network too.
"""

import argparse
import os
import subprocess
import sys
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from common import COMMAND_LIMIT, delayline, epoch_of_fit, heading, scratch_store, table, training_seconds

SOLVED = 0.99
GOAL = 0.995
"""Of the validation bits, twice running: at 0.99 a test of other bits ended at 0.9882 (measured)."""
STARTUP = 60
"""Seconds that a run is given before its training begins, beside its budget (assumed)."""
FRESH = ["dataset_params.sequences=500", "dataset_params.fresh=true", "batch=50", "evaluate={every_epochs: 5, validation: 0.2}"]
SCALED = "model_params.input_scale={expression: 2.7 / (dataset_params.delay + 10) ** 0.5}"
OPEN_GATES = ["model_params.start=simple", SCALED, "optimizer.learning_rate={expression: 0.07 / (dataset_params.delay + 10)}"]
KINDS: dict[str, tuple[str, list[str]]] = {
    "target": ("bit-memory-target-space", []),
    "target-weights": (
        "bit-memory-target-space",
        ["space.initial=weights", SCALED, "optimizer.learning_rate={expression: 0.3 / (dataset_params.delay + 10)}"],
    ),
    "simple-rnn": ("bit-memory-rnn", [*FRESH, "optimizer.learning_rate={expression: 0.06 / (dataset_params.delay + 10)}"]),
    "simple-rnn-scaled": (
        "bit-memory-rnn",
        [*FRESH, SCALED, "optimizer.learning_rate={expression: 0.03 / (dataset_params.delay + 10)}"],
    ),
    "lstm": ("bit-memory-lstm", [*FRESH, "jit_compile=true", *OPEN_GATES]),
    "gru": ("bit-memory-gru", [*FRESH, *OPEN_GATES]),
}
"""Recipe and settings, chosen on seeds from 10 on."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--delays", type=int, nargs="+", default=[60, 100, 200])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budget-epochs", type=float, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="a key of the spec to change")
    options = parser.parse_args()
    heading("delays that are solved")
    epoch = epoch_of_fit(options.threads)
    store = scratch_store()
    rows: list[tuple[object, ...]] = [("kind", "delay", "seed", "test bits", "steps", "seconds", "E", "solved")]
    for delay in options.delays:
        for kind in options.kinds:
            for seed in options.seeds:
                settings = [f"seed={seed}", f"worker.cpus={options.threads}", *options.set]
                row = measure(kind, delay, settings, store, epoch, options.budget_epochs)
                rows.append((kind, delay, seed, *row))
                print("  " + "  ".join(map(str, rows[-1])), flush=True)
    table(rows)


def measure(kind: str, delay: int, settings: list[str], store: str, epoch: float, budget: float) -> tuple[object, ...]:
    """Train until solved or for `budget` epochs of fit: test bits, steps, seconds, seconds / epoch, whether solved in time."""
    recipe, own = KINDS[kind]
    limit = f"time_limit={budget * epoch + STARTUP:.0f}"
    goal = f"early_stopping={{metric: val_accuracy, goal: {GOAL}}}"
    run = trained(recipe, store, [f"dataset_params.delay={delay}", "epochs=100000", goal, *own, limit, *settings])
    accuracy = run["metrics"].get("test_accuracy")
    seconds = training_seconds(run) if run["history"] else 0.0
    solved = accuracy is not None and accuracy > SOLVED and seconds <= budget * epoch
    best = run["metrics"].get("val_accuracy", float("nan"))
    shown = f"{accuracy:.4f}" if accuracy is not None else f"{best:.4f} (validation)"
    return shown, run["step"], f"{seconds:.0f}", f"{seconds / epoch:.1f}", "yes" if solved else "no"


def trained(recipe: str, store: str, settings: list[str]) -> Any:
    """The document of a run that may end by its time limit."""
    name = f"bench-{time.time_ns() % 10**12}"
    changes = [part for setting in settings for part in ("-s", setting)]
    subprocess.run(
        [sys.executable, "-m", "service.cli.main", "train", recipe, *changes, "--name", name],
        env={**os.environ, "DELAYLINE_STORE": store},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        timeout=COMMAND_LIMIT,
        check=False,
    )
    return delayline("runs", "show", name, "--json", store=store)


if __name__ == "__main__":
    main()
