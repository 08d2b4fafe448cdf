"""What looks after a sweep while Ray Tune has the driver's main thread: requests to stop, the budget, progress, Ray itself."""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from jobs.driving.heartbeat import end_process
from jobs.sweeps.dispatcher import CANCELLED, TrialDispatcher
from jobs.sweeps.progress import SweepProgress
from service.errors import LeaseLost, StoreError
from service.sweeps.trials import BUDGET

LOOK_SECONDS = 0.5
PROGRESS_SECONDS = 2.0
"""Between looks at all trials for the sweep's own progress (assumed: as often as a person looks)."""
PATIENCE = 60.0
"""Seconds for the last look at all trials (assumed: longer than a store takes for it)."""


@dataclass(kw_only=True)
class SweepWatch:
    """Looks in a thread of its own, within its block.

    `start_over` is called once `is_alive` denies that Ray's processes run: Tune would wait for them for ever.
    """

    dispatcher: TrialDispatcher
    progress: SweepProgress
    stop_wanted: Callable[[], bool]
    is_alive: Callable[[], bool]
    start_over: Callable[[], None]
    say: Callable[[str], None]
    _over: threading.Event = field(init=False, default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __enter__(self) -> "SweepWatch":
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        # Its last look at the trials would replace what is written of their end.
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        try:
            self._watch()
        except LeaseLost as error:
            end_process(error, self.say)

    def _watch(self) -> None:
        began, used, written = time.monotonic(), self.progress.used_seconds, 0.0
        while not self._over.wait(max(LOOK_SECONDS, self.progress.record.store.look_seconds)):
            self.progress.used_seconds = used + time.monotonic() - began
            with contextlib.suppress(StoreError):
                self._look_for_a_stop()
                if time.monotonic() - written > PROGRESS_SECONDS:
                    self.progress.write()
                    written = time.monotonic()
            if not self.is_alive() and not self._over.is_set():
                self.start_over()

    def _look_for_a_stop(self) -> None:
        if self.dispatcher.stopped_by is not None:
            self.dispatcher.ask_to_stop()
        elif self.stop_wanted():
            self.dispatcher.stop(CANCELLED)
        elif self.progress.out_of_time:
            self.dispatcher.stop(BUDGET)
