"""The seam between a submitter and the place where a run's driver runs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from service.settings import Settings
from service.specs.parts import Resources


@dataclass(frozen=True)
class Job:
    """One process to start: the driver of a run that is in the store, or the supervisor of one.

    Each cluster makes of the fields what it starts; `driver_jobs.argv` makes the command.
    """

    kind: str
    """What is driven: `train` or `sweep`."""
    run_id: str
    store_url: str
    """The store as this machine reaches it."""
    folder: Path
    """Where the user's own modules are found: a folder of this machine, or what stands for a package in the store."""
    resume: bool = False
    """Resume a run that has ended."""
    spec_changes: str | None = None
    """A whole spec as JSON that replaces the stored one."""
    modules: tuple[str, ...] = ()
    """Of the user's own, which travel with the job to another machine."""
    data: tuple[str, ...] = ()
    """Patterns of the files that they need beside their own code."""
    supervised: bool = False
    """A supervisor is started, which starts the driver where it runs itself: nobody stays here to do so."""
    retries: int = 0
    """How often a supervisor starts a driver again that died."""
    submission: str | None = field(default=None, repr=False)
    """What the run is, as JSON: by it the job claims the run's id where nobody has."""
    workers: tuple[int, int] = (1, 1)
    """The fewest and the most at a time, of all trials of a sweep."""
    worker: Resources = field(default_factory=Resources)
    """What each takes."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables for a process of this machine, beside this process's own."""


class Request(ABC):
    """What a cluster would start for a job, to the last byte; `Cluster.start` starts that very thing."""

    job: Job

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """It for people and for `--json`: `command`, and what is sent elsewhere, if anything is."""

    def manifest_text(self) -> str | None:
        """A file with which another tool starts the very same; None where there is none."""
        return None


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

    def hindrance(self) -> str | None:
        """What keeps the job from starting, in a sentence with the remedy; None where nothing does or it is not known."""
        return None


class Cluster(ABC):
    """Starts jobs; says what it has."""

    description: str
    """One phrase for people, such as `Ray on this machine`."""
    queued_seconds: float | None = None
    """For how long it may take to start a driver, until a run counts as lost; None where that is a process's start."""
    keeps_drivers: ClassVar[bool] = False
    """Whether a job that it was given is kept alive there, so that nobody needs to stay for it."""

    @abstractmethod
    def request(self, job: Job) -> Request:
        """What would be started; nothing is started or written. Raise InvalidInput when the user's code cannot be sent."""

    @abstractmethod
    def start(self, request: Request) -> Handle:
        """Start what `request` of this cluster gave and return at once; raise InfrastructureFailure when it cannot be started."""

    def client_settings(self, settings: Settings) -> Settings:
        """The settings with what the cluster knows and the user did not say, such as its store."""
        return settings

    def remark(self) -> str | None:
        """What a user should know of the cluster before anything is submitted; None where there is nothing."""
        return None

    def prepare(self, request: Request) -> None:
        """Put into the store what the request needs there, without a start."""
        return

    def find(self, run_id: str) -> Handle | None:
        """The job of a run that was started before, by anyone, and has not ended; None if there is none or none can be found."""
        return None

    def check_code(self, job: Job) -> None:
        """Raise InvalidInput, with the remedy, when the user's code cannot be sent; before a run is claimed for it."""
        return

    def check_store(self, url: str) -> None:
        """Raise InvalidInput, with the remedy, when the nodes cannot see this store as it is seen here."""
        return

    @abstractmethod
    def check_resources(self, workers: int, worker: Resources) -> None:
        """Raise InvalidInput, with the remedy, unless `workers` of these resources each can ever run here."""
