"""What `sweep-cifar10` finds on a budget, in units of one epoch of Keras' `fit`, and what its best trial reaches when it trains on.

usage: uv run python tests/benchmarks/sweep_cifar10.py --data FOLDER [--budget-epochs 100] [--on-epochs 30] [--set KEY=VALUE]…
E is one epoch of `fit` of the lecture's convolutional network on 60,000 images of MNIST's shape, batch 128, measured first.
The best trial is that with the best validation accuracy among those that came to their end; it trains on from its weights
with its own values, for more epochs.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import yaml
from common import delayline, epoch_of_fit, heading, import_dataset, processor, scratch_store, training_seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--budget-epochs", type=float, default=100)
    parser.add_argument("--on-epochs", type=int, default=30)
    parser.add_argument("--set", action="append", default=[], help="a key of the sweep to change")
    options = parser.parse_args()
    heading(f"sweep-cifar10 on a budget of {options.budget_epochs:g} E")
    epoch = epoch_of_fit(2)
    store = scratch_store()
    import_dataset("cifar10", options.data / "cifar-10-batches-py" if options.data else None, store)
    # Measured: with instructions for bfloat16 a step takes half the time, without them two to three times as long.
    precision = ["base.precision=bfloat16"] if "bf16" in processor() else []
    changes = [f"budget={options.budget_epochs * epoch:.0f}", *precision, *options.set]
    arguments = [part for change in changes for part in ("-s", change)]
    sweep = delayline("sweep", "sweep-cifar10", *arguments, "--name", "swept", "--json", store=store)
    used = sweep["finished"] - sweep["started"]
    counts = {state: sum(trial["state"] == state for trial in sweep["trials"]) for state in ("succeeded", "stopped", "failed")}
    print(f"{used:.0f} s, {used / epoch:.0f} E: " + ", ".join(f"{count} {state}" for state, count in counts.items()), flush=True)
    best = delayline("runs", "show", sweep["best"]["trial"], "--json", store=store)
    print(f"best: {best['id']} {sweep['best']['params']}: {figures(best)}", flush=True)
    on = train_on(best, store, options.on_epochs)
    seconds = training_seconds(on)
    print(f"trained on for {options.on_epochs} epochs, {seconds / epoch:.0f} E: {figures(on)}")


def train_on(best: Any, store: str, epochs: int) -> Any:
    """The document of a run that starts from a trial's weights, with its values."""
    values = {**best["spec"], "init_from": best["id"], "epochs": epochs, "worker": {"cpus": 2}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "on.yaml"
        path.write_text(yaml.safe_dump(values))
        return delayline("train", str(path), "--name", "on", "--json", store=store)


def figures(run: Any) -> str:
    """A run's accuracies."""
    metrics = run["metrics"]
    return ", ".join(f"{name} {metrics[name]:.4f}" for name in ("val_accuracy", "test_accuracy") if name in metrics)


if __name__ == "__main__":
    main()
