"""Trials of about 1 s under Ray Tune, against the same trainings without Tune in as many processes.

usage: uv run python tests/benchmarks/sweep_overhead.py [--trials 200]
Either side has two warm processes that drive run after run in the same way, with all that a run writes. Measured is from the
first trial's start to the last one's end.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import delayline, heading, scratch_store, span

BASE = {"recipe": "lenet5-digits", "epochs": 2, "worker": {"cpus": 1}}
PROCESSES = 2

# What a process of Tune does with each trial, without Tune.
WITHOUT_TUNE = """
import importlib, json, sys
from jobs.sweeps.trial import Trial
from jobs.sweeps.trial_order import TrialOrder
from jobs.worker_groups.ray_cluster import PREPARED_MODULES
for name in PREPARED_MODULES:
    importlib.import_module(name)
for order in json.load(sys.stdin):
    (told := TrialOrder(**order)).enter_environment()
    list(Trial(told).reports())
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=200)
    options = parser.parse_args()
    heading(f"{options.trials} trials of lenet5-digits, {BASE['epochs']} epochs, {PROCESSES} processes")
    store = scratch_store()
    ours, each = under_tune(store, options.trials)
    theirs = without_tune(store, options.trials)
    print(f"under Tune {ours:.1f} s ({each:.2f} s a trial), without {theirs:.1f} s, ratio {ours / theirs:.3f}")


def under_tune(store: str, trials: int) -> tuple[float, float]:
    """Seconds for all trials of a sweep, and for one of them on average."""
    import yaml

    folder = Path(store).parent
    path = folder / "overhead.yaml"
    path.write_text(yaml.safe_dump({"base": BASE, "space": {"batch": {"grid": [64]}}, "seeds": trials, "parallel": PROCESSES}))
    rows = delayline("sweep", str(path), "--name", "tune", "--json", store=store)["trials"]
    return span(rows), sum(row["finished"] - row["started"] for row in rows) / len(rows)


def without_tune(store: str, trials: int) -> float:
    """Seconds for the same runs under other names, shared out over the processes before."""
    from service.records.run_record import RunRecord
    from service.settings import Settings
    from service.storage import open_store

    opened, settings = open_store(Settings.load(store=store)), Settings.load(store=store)
    orders: list[dict[str, Any]] = []
    for trial in RunRecord(opened, "tune").trials():
        name = trial.id.replace("tune", "bare")
        RunRecord(opened, name).claim(RunRecord(opened, trial.id).spec())
        orders.append(
            {"id": name, "sweep": "tune", "store": store, "folder": ".", "metric": "val_accuracy", "by_evaluation": False,
             "from_history": False, "over": False, "mutation": None,
             "distributed": False, "local": True, "environment": settings.for_processes()}
        )  # fmt: skip
    assert len(orders) == trials

    def run(share: list[dict[str, Any]]) -> None:
        subprocess.run([sys.executable, "-c", WITHOUT_TUNE], input=json.dumps(share), text=True, check=True, capture_output=True)

    with ThreadPoolExecutor(PROCESSES) as pool:
        list(pool.map(run, [orders[number::PROCESSES] for number in range(PROCESSES)]))
    states = [RunRecord(opened, order["id"]).state() for order in orders]
    assert {state.state for state in states} == {"succeeded"}
    return span(states)


if __name__ == "__main__":
    main()
