"""Writes the end of a run whose driver Ray killed while it stopped: `python -m jobs.afterwards`, a process of its own.

`ray job stop` sends SIGTERM to a job's processes and kills those that it knows 3 s later (RAY_JOB_STOP_WAIT_TIME_S).
This one is started after it looked, and outlives them.
"""

import argparse
import contextlib
import sys

import psutil

from service.settings import Settings
from service.storage import open_store
from service.storage.records import RunRecord
from service.storage.standing import end_without_driver

DRIVER_SECONDS = 600.0
"""For the driver to end (assumed: longer than any limit that is set for saving)."""


def main(argv: list[str]) -> int:
    """Wait for the driver's end, and call the run cancelled if the driver did not write how it ended."""
    parser = argparse.ArgumentParser(prog="python -m jobs.afterwards")
    parser.add_argument("--run", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--driver", type=int, required=True, help="its process id")
    options = parser.parse_args(argv)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(options.driver).wait(DRIVER_SECONDS)
    settings = Settings.load(store=options.store)
    record = RunRecord(open_store(settings, patience=settings.store_patience), options.run)
    return 0 if not record.cancel_requested() or end_without_driver(record, "cancelled", None, 130) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
