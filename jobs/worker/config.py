"""What the driver gives a worker: the run, its attempt, its settings; and the fence that keeps an attempt that is over from writing."""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jobs.training.place import Place
from service.errors import LeaseLost
from service.records.run_record import Document, RunRecord
from service.settings import Settings


@dataclass(frozen=True)
class WorkerConfig:
    """What the driver gives each worker; plain values, no secrets."""

    run_id: str
    spec: Document
    attempt: int
    nonce: str
    """With the attempt's number it is part of the keys of all that the attempt writes."""
    workers: int
    cpus: float
    lease_token: str
    folder: str
    """Where the user started the command, or their package in the store: their modules are found from here."""
    environment: Mapping[str, str]
    trained: Document | None = None
    """Of a run that lost its analysis, the progress document when its training was done: only the analysis is made again."""

    def enter_environment(self) -> None:
        """Put the driver's settings into this process's environment, and so into its children's; credentials stay its own."""
        os.environ.update(self.environment)

    def place(self, rank: int, folder: str, record: RunRecord, settings: Settings, members: Sequence[Document]) -> Place:
        """Where worker `rank` stands; `folder` is the user's on this machine, `members` are all workers' identities."""
        return Place(
            rank=rank,
            workers=self.workers,
            attempt=self.attempt,
            folder=folder,
            dataset_version=record.submission().dataset_version,
            ring_timeout=settings.ring_timeout,
            cache=settings.cache,
            cache_bytes=settings.cache_bytes,
            neighbours=sum(member["host"] == socket.gethostname() for member in members),
        )


def fence_of(record: RunRecord, config: WorkerConfig) -> Callable[[], None]:
    """Return a function that raises LeaseLost when this attempt no longer owns the run."""

    def fence() -> None:
        lease = record.lease()
        if lease is None or lease.token != config.lease_token:
            raise LeaseLost(f"Another driver took over the run {config.run_id}; this attempt stops.")

    return fence
