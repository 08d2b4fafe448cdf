"""Where a worker stands in its attempt."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """Where this worker stands in its attempt."""

    rank: int
    workers: int
    attempt: int
    folder: str
    """From which a user's modules are found."""
    dataset_version: str | None
    ring_timeout: float
    """Seconds."""
    cache: Path
    cache_bytes: int
    neighbours: int = 1
    """Workers on this one's node, itself among them."""
