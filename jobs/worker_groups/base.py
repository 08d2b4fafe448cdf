"""Where the workers of a run come from: the seam of the driver, and a worker in the driver's own process."""

from typing import Protocol

from jobs.worker.config import WorkerConfig


class Attempt(Protocol):
    """One try of all workers; `error` is what ended it, or None."""

    error: BaseException | None

    def wait(self, seconds: float) -> bool:
        """Whether it ended, after waiting at most so long."""


class Group(Protocol):
    """Where the workers of a run come from."""

    wait_limit: float
    """Seconds for which `connect` and `size` are tried again: Ray may be slow to start, and room may come."""

    def connect(self) -> None:
        """Be ready to start workers; raise InfrastructureFailure."""

    def size(self) -> int:
        """How many workers there can be now; raise InfrastructureFailure for too few."""

    def start(self, config: WorkerConfig) -> Attempt:
        """Start the workers of an attempt."""

    def is_alive(self) -> bool:
        """Whether workers can still be started."""

    def kill(self) -> None:
        """End what does not answer any more."""

    def disconnect(self) -> None:
        """Leave."""
