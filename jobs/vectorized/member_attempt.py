"""A run's place in a group, as the driver of the run sees it: an attempt that others end."""

import threading
from dataclasses import dataclass, field

from jobs.worker.config import WorkerConfig


@dataclass
class MemberAttempt:
    """One attempt of one member; `error` is what ended it, or None."""

    config: WorkerConfig
    error: BaseException | None = None
    given_up: bool = False
    """Its driver has ended the run and waits no more."""
    _done: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float) -> bool:
        """Whether it ended, after waiting at most so long."""
        return self._done.wait(seconds)

    def end(self, error: BaseException | None = None) -> None:
        """The attempt is over."""
        self.error = error
        self._done.set()
