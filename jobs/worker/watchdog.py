"""Ends a worker that waits too long for its peers: `python -m jobs.worker.watchdog`, a process of its own beside the worker.

While TensorFlow waits for a ring it holds Python's global lock and swallows SIGTERM: no thread of the worker could do this.
It sleeps on its standard input, which the worker closes once the ring is formed, and the system when the worker dies.
"""

import json
import os
import select
import signal
import sys
from typing import Any

from service.errors import InfrastructureFailure


def main() -> int:
    """Read what to guard, wait, and report and kill if the time runs out; return 0 if it did not."""
    order = json.loads(sys.stdin.readline())
    ready, _, _ = select.select([sys.stdin], [], [], order["seconds"])
    if ready:
        return 0
    try:
        report(order, InfrastructureFailure(str(order["message"])))
    finally:
        os.kill(order["pid"], signal.SIGKILL)
    return 1


def report(order: dict[str, Any], failure: InfrastructureFailure) -> None:
    """Write the failure to the store and, with what the worker printed so far, to its log."""
    from functools import partial
    from pathlib import Path

    from jobs.artifacts.logs import LogShipper
    from jobs.worker.failures import report_failure
    from service.records.run_record import RunRecord
    from service.settings import Settings
    from service.storage import open_store

    settings = Settings.load()
    record = RunRecord(open_store(settings, patience=settings.store_patience), str(order["run_id"]), str(order["nonce"]))
    attempt, rank = int(str(order["attempt"])), int(str(order["rank"]))
    report_failure(record, attempt, rank, failure)
    key = partial(record.paths.log, record.label(attempt), rank)
    LogShipper(record.store, key, Path(str(order["log"]))).close()


if __name__ == "__main__":
    sys.exit(main())
