"""A thread that does the same work every few seconds."""

import threading
from collections.abc import Callable


class Repeating:
    """Calls `work` in a thread every `seconds` until it is stopped, or until `work` returns True.

    The first call comes after `first` seconds. What `work` raises ends the thread: what may fail is handled there.
    """

    def __init__(self, name: str, seconds: float, work: Callable[[], bool | None], first: float | None = None) -> None:
        self._seconds, self._work = seconds, work
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(seconds if first is None else first,), name=name, daemon=True)
        self._thread.start()

    @property
    def stopped(self) -> bool:
        """Whether no further call begins."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Begin no further call; one that is under way ends by itself."""
        self._stopped.set()

    def join(self) -> None:
        """Wait until a call that is under way has ended."""
        self._thread.join()

    def _run(self, wait: float) -> None:
        while not self._stopped.wait(wait):
            if self._work():
                return
            wait = self._seconds
