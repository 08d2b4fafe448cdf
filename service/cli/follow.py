"""Shows a run until its end; Ctrl-C and SIGTERM become wishes of the one who follows it."""

import contextlib
import signal
import sys
import time
from types import FrameType

from service.cli.console import is_live
from service.cli.display import Display, LiveDisplay, PlainDisplay
from service.cli.sweep_display import LiveSweep, PlainSweep
from service.runs.endings import raise_for
from service.submission.follower import RunFollower, Wishes

DEAF_SECONDS = 2.0
"""After the second Ctrl-C (derived: what it starts takes less)."""


def make_display(run_id: str, kind: str = "train") -> Display:
    """The live display on a terminal, the plain one elsewhere; of a run, or of a sweep."""
    live, plain = (LiveSweep, PlainSweep) if kind == "sweep" else (LiveDisplay, PlainDisplay)
    return live(run_id) if is_live(sys.stderr) else plain(run_id)


class Interrupts(Wishes):
    """Within it the first Ctrl-C is remembered in `stop_since`, the second raises KeyboardInterrupt; SIGTERM is remembered in `terminated`.

    Those that come right after the second do nothing: they would interrupt what stops the driver.
    """

    def __init__(self) -> None:
        super().__init__()
        self._raised: float | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        # No more than this: what it interrupts may hold any lock.
        if number == signal.SIGTERM:
            self.terminated = self.terminated or time.monotonic()
        elif self.stop_since is None:
            self.stop_since = time.monotonic()
        elif self._raised is None or time.monotonic() - self._raised > DEAF_SECONDS:
            self._raised = time.monotonic()
            raise KeyboardInterrupt


def follow(follower: RunFollower, display: Display) -> None:
    """Show the run's updates; return when it has succeeded, raise the error that stands for any other end."""
    with contextlib.closing(display), contextlib.closing(follower.updates()) as updates:
        try:
            for update in updates:
                display.show(update)
        except KeyboardInterrupt:
            raise follower.stop_at_once() from None
    raise_for(follower.run_id, update.document)
