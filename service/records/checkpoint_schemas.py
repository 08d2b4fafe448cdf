"""What the documents of a checkpoint, and the index of them, hold."""

from pydantic import JsonValue

from service.records.metrics import Segment
from service.records.stored_document import StoredDocument


class KeptCheckpoint(StoredDocument):
    """A checkpoint that counts: its step, its folder's name below the run's checkpoints, and how good it is where that is known."""

    step: int
    folder: str
    score: float | None = None


class CheckpointIndexDocument(StoredDocument):
    """`checkpoints.json`: which checkpoints a run can resume from, by the label of the attempt that has the index."""

    owner: str = ""
    checkpoints: tuple[KeptCheckpoint, ...]


class FileEntry(StoredDocument):
    """A file of a checkpoint."""

    bytes: int
    sha256: str


class CheckpointManifest(StoredDocument):
    """`checkpoints/<step>-<label>/manifest.json`; `sha256` is that of the manifest without it."""

    step: int
    epoch: int
    score: float | None
    saved: float | None = None
    files: dict[str, FileEntry]
    history: tuple[Segment, ...] = ()
    """The sealed parts of the rows of metrics up to here; none in the first format, whose checkpoints hold all rows."""
    position: dict[str, JsonValue]
    sha256: str = ""
    """Empty until the rest stands."""
