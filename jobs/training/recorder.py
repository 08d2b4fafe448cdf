"""The seam between training and the store: what a worker writes and asks while it trains; ranks other than 0 write nothing."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from jobs.artifacts.checkpoints import Snapshot
from jobs.training.intervals import Intervals
from jobs.training.state import LoopState
from service.records.metrics import Segment
from service.records.run_record import Document
from service.records.schemas import RunState


class Recorder(Protocol):
    """What training writes and asks; of rank 0 see jobs.training.store_recorder."""

    def resume(self, step: int, history: list[Document], sealed: Sequence[Segment]) -> None:
        """Begin at `step` with the rows so far, the first of them in sealed parts; what the store holds of later steps is deleted."""

    def started(self, summary: str, intervals: Intervals, step: int) -> None:
        """Say that the first step is about to be done; `summary` shows the model's layers."""

    def remarks(self, look: Callable[[], list[str]]) -> None:
        """Write what `look` finds in a model before its first step, one event each."""

    def graph(self, draw: Callable[[], bytes]) -> None:
        """Write the model's graph."""

    def row(self, row: Document) -> None:
        """Write a row of metrics."""

    def update(self, **values: Any) -> None:
        """Change values of the progress document."""

    def event(self, event: str, message: str, **details: Any) -> None:
        """Write an event."""

    def save(self, take: Callable[[], Snapshot]) -> None:
        """Have the snapshot that `take` makes written as a checkpoint."""

    def stop_requested(self) -> bool:
        """Whether somebody asked the run to stop."""

    def still_own(self) -> None:
        """Raise LeaseLost when another attempt has taken the run over."""

    def wait_for_checkpoints(self) -> None:
        """Return once the last checkpoint is in the store."""

    def trained(self, metrics: Document, state: LoopState) -> None:
        """Write to the store that the training is done: what comes after it may be lost."""

    def ended(self, outcome: RunState, metrics: Document, state: LoopState) -> None:
        """Write how the attempt ended."""

    def close(self) -> None:
        """Write the rest."""


class NullRecorder:
    """Every rank but the first: writes nothing, and is never asked to stop."""

    def resume(self, step: int, history: list[Document], sealed: Sequence[Segment]) -> None: ...

    def started(self, summary: str, intervals: Intervals, step: int) -> None: ...

    def remarks(self, look: Callable[[], list[str]]) -> None: ...

    def graph(self, draw: Callable[[], bytes]) -> None: ...

    def row(self, row: Document) -> None: ...

    def update(self, **values: Any) -> None: ...

    def event(self, event: str, message: str, **details: Any) -> None: ...

    def save(self, take: Callable[[], Snapshot]) -> None: ...

    def stop_requested(self) -> bool:
        return False

    def still_own(self) -> None: ...

    def wait_for_checkpoints(self) -> None: ...

    def trained(self, metrics: Document, state: LoopState) -> None: ...

    def ended(self, outcome: RunState, metrics: Document, state: LoopState) -> None: ...

    def close(self) -> None: ...
