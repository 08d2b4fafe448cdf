"""Ends a worker that stalls: `python -m jobs.worker.stall_watch`, a process of its own beside each worker.

A thread of the worker could not: the worker may hold Python's lock while it waits. Each rank's process measures by its own clock,
makes its worker print all stacks into its log, waits for the others to do the same, writes the failure, and kills the worker.
"""

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jobs.liveness import DUMP_SIGNAL, LONGER

if TYPE_CHECKING:
    from service.records.schemas import ProgressDocument

GAPS = 20.0
"""Times the longest gap between two ticks so far: what is slow by nature is no stall."""
LONG_SECONDS = 3600.0
"""For what may take long by itself: data that is fetched, a graph that is built, an analysis (assumed)."""
LINGER_SECONDS, LINGER_SHARE = 2.0, 0.05
"""Between the stacks and the end, at least so long, or this part of the limit: the ranks' clocks and gaps differ a little."""
LEAD_SECONDS = 15.0
"""The same of the other ranks, which look in it whether rank 0 moves (derived: it writes its progress every 10 s)."""
LOOK_SECONDS = 60.0
"""Between looks whether the worker still lives (assumed)."""


class Silence:
    """How long a worker has been silent, and how long it may be."""

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._least = limit
        self._clock = clock
        self._last = clock()
        self._longest = 0.0
        self._long = True

    @property
    def limit(self) -> float:
        """How many seconds it may be silent now."""
        usual = max(self._least, GAPS * self._longest)
        return max(usual, LONG_SECONDS) if self._long else usual

    @property
    def seconds(self) -> float:
        """Seconds since the worker last wrote."""
        return self._clock() - self._last

    def note(self, words: bytes) -> None:
        """Take what the worker said; the wait that `longer` announced is no measure of its gaps."""
        if not self._long:
            self._longest = max(self._longest, self.seconds)
        self._last = self._clock()
        self._long = words.endswith(LONGER)


def main() -> int:
    """Listen to the worker until it ends; return 1 after it was ended from here."""
    order = json.loads(_first_line())
    silence, parent = Silence(float(order["limit"])), os.getppid()
    while os.getppid() == parent:
        words = _listen(min(LOOK_SECONDS, max(0.0, silence.limit - silence.seconds)))
        if words == b"":
            return 0
        if words is not None:
            silence.note(words)
        elif silence.seconds >= silence.limit and _is_still(order, silence) and os.getppid() == parent:
            _end(order, silence)
            return 1
    return 0


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return line


def _listen(seconds: float) -> bytes | None:
    """Return what the worker writes within so long: None for nothing, empty once it has ended."""
    ready, _, _ = select.select([0], [], [], seconds)
    return os.read(0, 65536) if ready else None


def _is_still(order: dict[str, Any], silence: Silence) -> bool:
    """Let the worker print its stacks; look whether anything moves before it is ended.

    Rank 0 may do what the others wait for in a collective: its progress in the store shows it.
    """
    os.kill(order["pid"], DUMP_SIGNAL)
    before = None if order["rank"] == 0 else _progress(order)
    words = _listen(max(LINGER_SECONDS if order["rank"] == 0 else LEAD_SECONDS, LINGER_SHARE * silence.limit))
    if words is not None:
        silence.note(words)
        return False
    if before is None:
        return bool(order["rank"] == 0)
    after = _progress(order)
    moved = after is None or (after != before and (after.idle_seconds or 0.0) < silence.limit / 2)
    return not moved


def _progress(order: dict[str, Any]) -> "ProgressDocument | None":
    """Return rank 0's progress; None where the store does not answer."""
    from service.errors import DelaylineError

    with contextlib.suppress(DelaylineError):
        found: ProgressDocument = _record(order).progress()
        return found
    return None


def _record(order: dict[str, Any]) -> Any:
    from service.records.run_record import RunRecord
    from service.settings import Settings
    from service.storage import open_store

    settings = Settings.load()
    return RunRecord(open_store(settings, patience=settings.store_patience), order["run_id"], order["nonce"])


def _end(order: dict[str, Any], silence: Silence) -> None:
    """Write the failure, and the log with the stacks; end the worker even if that fails."""
    from jobs.worker.watchdog import report
    from service.errors import Stalled

    message = (
        f"Worker {order['rank']} stalled for {silence.seconds:.0f} s, longer than the {silence.limit:.0f} s of stall_limit "
        f"or 20 times its longest gap before: its log holds the stack of each thread."
    )
    try:
        report(order, Stalled(message))
    finally:
        os.kill(order["pid"], signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
