"""The seam between a submitter and the place where a run's driver runs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.specs.train import Resources


@dataclass(frozen=True)
class Job:
    """One process to start: a run's driver, or its supervisor.

    `folder` is where the user's own `modules` are found; `environment` is whole, not a set of changes.
    """

    run_id: str
    argv: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str]
    modules: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    """Patterns of the files that they need beside their own code."""


class Handle(ABC):
    """A job that was started."""

    @property
    def pid(self) -> int:
        """Its process, if it is one of this machine, else 0."""
        return 0

    @abstractmethod
    def poll(self) -> int | None:
        """The exit code (negative: the signal that killed it) once the job has ended, else None."""

    @abstractmethod
    def stop(self, grace: float = 0.9) -> None:
        """End the job, politely and after `grace` seconds by force, and all that it started; also after its own end."""

    def terminate(self) -> bool:
        """Tell the job that the system stops it; False where it lives on without the process that started it."""
        return False

    @abstractmethod
    def output(self) -> str:
        """What the job printed so far; the end of it if that is long."""

    def forget(self) -> None:
        """Drop what was kept to answer `output`; the job has ended."""
        return


class Cluster(ABC):
    """Starts jobs; says what it has."""

    description: str
    """One phrase for people, such as `Ray on this machine`."""

    @abstractmethod
    def start(self, job: Job) -> Handle:
        """Start the job and return at once; raise InfrastructureFailure when it cannot be started."""

    def find(self, run_id: str) -> Handle | None:
        """The job of a run that was started before, by anyone, and has not ended; None if there is none or none can be found."""
        return None

    def preview(self, job: Job) -> dict[str, Any]:
        """What `start` would send elsewhere, for people to see before; empty when it sends nothing."""
        return {}

    def check_code(self, job: Job) -> None:
        """Raise InvalidInput, with the remedy, when the user's code cannot be sent; before a run is claimed for it."""
        return

    def check_store(self, url: str) -> None:
        """Raise InvalidInput, with the remedy, when the nodes cannot see this store as it is seen here."""
        return

    @abstractmethod
    def check_resources(self, workers: int, worker: Resources) -> None:
        """Raise InvalidInput, with the remedy, unless `workers` of these resources each can ever run here."""
