"""Seconds of `delayline --help` and of `delayline runs list` with 1,000 runs on MinIO, against `python -c pass`.

usage: uv run python tests/benchmarks/command_line.py [--rounds 7] [--runs 1000]
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import heading, median_ratio, minio_store

from service.records.schemas import StateDocument
from service.records.submission_schemas import Origin


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=1000)
    options = parser.parse_args()
    heading("seconds of a command")
    command = [str(Path(sys.executable).parent / "delayline")]
    bare = [sys.executable, "-c", "pass"]
    median_ratio(lambda: seconds([*command, "--help"]), lambda: seconds(bare), options.rounds, "s", ("--help", "python -c pass"))
    with minio_store() as (store, environment):
        make_runs(store, environment, options.runs)
        listing = [*command, "runs", "list", "--store", store]
        median_ratio(
            lambda: seconds(listing, environment), lambda: seconds(bare), options.rounds, "s", ("runs list", "python -c pass")
        )


def seconds(command: list[str], environment: dict[str, str] | None = None) -> float:
    """The time that a command takes."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **(environment or {})})
    return time.perf_counter() - began


def make_runs(store: str, environment: dict[str, str], count: int) -> None:
    """Finished runs, each with the documents that a listing reads."""
    os.environ.update(environment)
    from service.recipes import resolve
    from service.records.run_record import RunRecord
    from service.records.submissions import run_summary
    from service.settings import Settings
    from service.storage import open_store

    opened = open_store(Settings.load(store=store))
    spec, stem = resolve("cnn-digits", [], None, None)
    ended = {
        "state": "succeeded",
        "attempts": [],
        "started": 1.0,
        "finished": 2.0,
        "metrics": {"test_accuracy": 0.99},
        "error": None,
    }

    def make(number: int) -> None:
        record = RunRecord(opened, f"run-{number}")
        record.claim(spec, Origin(recipe=stem, command=[], folder=".", dataset_version="uci-1998"))
        record.write_state(StateDocument.model_validate({**ended, "summary": run_summary(record.submission())}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(count)))


if __name__ == "__main__":
    main()
