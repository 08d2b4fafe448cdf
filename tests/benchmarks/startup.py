"""Seconds from the command to the end of the first training step, two workers: Delayline against Ray's documented example.

usage: uv run python tests/benchmarks/startup.py [--rounds 3]
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import heading, make_noise, median_ratio, scratch_store, train

EXAMPLE = Path(__file__).parent / "ray_example.py"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    heading("seconds from the command to the first training step, 2 workers, data cached")
    store = scratch_store()
    make_noise(store, 5_000)
    cache = {"DELAYLINE_CACHE": tempfile.mkdtemp(prefix="delayline-benchmark-cache-")}
    delayline_seconds(store, cache)
    example_seconds()
    median_ratio(
        lambda: delayline_seconds(store, cache), example_seconds, options.rounds, "s", ("delayline", "Ray's documented example")
    )


def delayline_seconds(store: str, environment: dict[str, str]) -> float:
    """`delayline train` with a row of metrics for each of two steps."""
    began = time.time()
    keys = ["dataset=noise", "steps=2", "log_every=1", "evaluate.validation=0", "worker.cpus=1"]
    run = train("cnn-mnist", store, *keys, workers=2, environment=environment)
    return float(run["history"][0]["time"] - began)


def example_seconds() -> float:
    """The example prints the time at which its first step was done."""
    began = time.time()
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=600, check=False)
    # Ray puts the worker's name and a colour before each line.
    times = [float(found) for found in re.findall(r"FIRST_STEP_DONE=([0-9.]+)", done.stdout)]
    if not times:
        raise SystemExit(f"the example failed: {done.stderr[-2000:]}")
    return min(times) - began


if __name__ == "__main__":
    main()
