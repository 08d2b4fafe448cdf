"""Where the workers of a run come from: the seam between a driver and its workers."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from jobs.worker.config import WorkerConfig
from service.settings import Settings
from service.specs.train import TrainSpec


class Attempt(Protocol):
    """One try of all workers; `error` is what ended it, or None."""

    error: BaseException | None

    def wait(self, seconds: float) -> bool:
        """Whether it ended, after waiting at most so long."""


@dataclass(frozen=True)
class Leaving:
    """Which nodes are being taken away now: they are gone within seconds, as a preempted or drained one."""

    nodes: frozenset[str] = frozenset()
    """By the ids that workers have in `Worker.node`."""
    driver: bool = False
    """Whether it is the node of this process, too."""


class Group(Protocol):
    """The workers of one run, attempt after attempt."""

    wait_limit: float
    """Seconds for which `size` is tried again: Ray may be slow to start, and room may come."""

    def size(self) -> int:
        """Return how many workers there can be now, and be ready to start them; raise InfrastructureFailure for too few."""

    def room(self) -> int:
        """How many workers there could be now, those that run included; 0 for too few, or where no room ever comes."""

    def start(self, config: WorkerConfig) -> Attempt:
        """Start the workers of an attempt."""

    def is_alive(self) -> bool:
        """Whether workers can still be started."""

    def leaving(self) -> Leaving:
        """Which nodes are being taken away, as of a second ago; asks nobody, and so waits for nobody."""


MakeGroup = Callable[[Settings, TrainSpec], AbstractContextManager[Group]]
"""Makes the group of a run; at the end of its block what it runs on is left."""
