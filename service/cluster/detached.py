"""Supervises a run's driver after `delayline train --detach`: `python -m service.cluster.detached --run ID …`.

It runs where the driver runs: on this machine, or in the cluster as the job's own process.
"""

import argparse
import contextlib
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType

from service.cluster import open_cluster
from service.cluster.local_ray import DRIVERS, driver_job
from service.cluster.supervisor import Supervisor
from service.errors import DelaylineError, StoreError
from service.settings import Settings
from service.storage import open_store
from service.storage.records import ENDED, RunRecord

POLL_SECONDS = 0.5
ASK_SECONDS = 1.0
"""After a signal, for a driver that got it as well to ask first (assumed)."""


def main(argv: list[str]) -> int:
    """Supervise until the run has ended; return the driver's exit code."""
    options = parser().parse_args(argv)
    settings = Settings.load(store=options.store)
    record = RunRecord(open_store(settings), options.run)
    install_signal_handler(record)
    try:
        return supervise(options, settings, record)
    except Exception as error:
        # Nobody watches this process: what it has to say goes to the store.
        with contextlib.suppress(StoreError):
            record.store.write(f"{record.paths.logs}supervisor.log", traceback.format_exc().encode())
        return error.exit_code if isinstance(error, DelaylineError) else 4


def install_signal_handler(record: RunRecord) -> None:
    """The first SIGTERM asks the run to save and stop, and its end is waited for; a second one ends this process."""

    def handler(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # `ray job stop` tells the driver too, which takes a request that stands already for the second one.
        threading.Timer(ASK_SECONDS, ask).start()

    def ask() -> None:
        with contextlib.suppress(StoreError):
            if record.state()["state"] not in ENDED and not record.person_cancelled():
                record.request_cancel()

    signal.signal(signal.SIGTERM, handler)


def parser() -> argparse.ArgumentParser:
    """The options of the driver that it starts, and the number of retries."""
    parser = argparse.ArgumentParser(prog="python -m service.cluster.detached")
    parser.add_argument("--kind", choices=sorted(DRIVERS), default="train")
    parser.add_argument("--run", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--spec-changes")
    parser.add_argument("--retries", type=int, required=True)
    return parser


def supervise(options: argparse.Namespace, settings: Settings, record: RunRecord) -> int:
    """Start the driver and keep it alive."""
    state = record.state()
    earlier_end = state.get("finished") if state["state"] in ENDED else None
    supervisor = Supervisor(
        record,
        open_cluster(settings),
        lambda resume: driver_job(
            settings, options.kind, options.run, options.store, Path(options.folder), resume, options.spec_changes
        ),
        retries=options.retries,
        resume=options.resume,
        earlier_end=earlier_end,
    )
    while (code := supervisor.poll()) is None:
        time.sleep(POLL_SECONDS)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
