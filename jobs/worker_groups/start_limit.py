"""Limits how long a start may hang: Ray waits for ever for a process that stands still while it starts.

`ray.init` returns once a local cluster's first workers have said that they are there, and Ray Train asks its actors for their addresses;
neither has a time limit. One worker that stands still in an import, as may happen on a machine without memory or processor time to spare,
held up a whole run (seen once of a few hundred starts; repeated by SIGSTOP).
"""

import contextlib
import faulthandler
from collections.abc import Iterator

START_SECONDS = 180.0
"""For Ray to start on this machine, or for the workers of an attempt (assumed: ten times what a busy machine takes, measured there: 15 s)."""
STDERR = 2


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """End this process, with the stacks of its threads on standard error, where its block takes longer than so many seconds.

    By faulthandler, whose thread needs no lock of Python's: Ray holds it while it waits, and so no other thread of this process runs,
    the lease's heartbeat included. The process's supervisor ends what it started and starts another one.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def start_limit(wait_limit: float) -> float:
    """Seconds that a start may take where a run waits `wait_limit` seconds for room at most."""
    return min(START_SECONDS, wait_limit)
