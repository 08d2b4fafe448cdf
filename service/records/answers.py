"""What the commands print of runs with `--json`; what else they print is in command_answers.py."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from service.errors import LOST
from service.records.schemas import Attempt, Event, Failure, Metrics, Row, RunState, Waiting
from service.records.submission_schemas import Kind, Workers
from service.records.sweep_schemas import Best, Trial


class Answer(BaseModel):
    """What a command prints. What stands in it as the store has it may have more keys, of a newer version."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, serialize_by_alias=True)

    def document(self) -> dict[str, Any]:
        """As JSON has it, without what was not given."""
        return self.model_dump(mode="json", exclude_unset=True)


class Checkpoint(Answer):
    """A checkpoint that a run can resume from; `path` is the key of its folder in the store."""

    step: int
    path: str


class TrialRow(Trial):
    """A trial, and how it stands: as its run, or `stopped` early or `paused` by its sweep."""

    state: RunState | Literal["stopped", "paused"]
    metrics: Metrics
    attempts: tuple[Attempt, ...]
    epoch: int | None
    epochs: int | None
    step: int | None
    steps: int | None
    started: float | None
    finished: float | None
    error: Failure | None

    @property
    def was_lost(self) -> bool:
        """Whether it failed by what neither its spec nor its data caused."""
        return self.state == RunState.FAILED and self.error is not None and self.error.kind in LOST


class Run(Answer):
    """A run or a sweep: `runs show`, `runs watch`, `runs cancel`, `train` and `sweep`. Times are seconds since 1970."""

    id: str
    kind: Kind
    state: RunState
    note: str | None
    spec: dict[str, JsonValue]
    recipe: str | None
    command: tuple[str, ...] | None
    folder: str | None
    submitted: float | None
    started: float | None
    finished: float | None
    phase: str | None
    epoch: int
    epochs: int | None
    step: int
    steps: int | None
    examples_per_second: float | None
    eta_seconds: float | None
    idle_seconds: float | None
    """For how long there was no step, once that is long."""
    waiting: Waiting | None
    metrics: Metrics
    history: tuple[Row, ...]
    attempts: tuple[Attempt, ...]
    checkpoints: tuple[Checkpoint, ...]
    remarks: tuple[str, ...]
    events: tuple[Event, ...]
    error: Failure | None
    exit_code: int | None
    store: str
    sweep: str = ""
    """Of a trial: its sweep."""
    trials: tuple[TrialRow, ...] = ()
    """Of a sweep; with the `best` of its points."""
    best: Best | None = None


class _Noted(Answer):
    id: str
    kind: Kind
    tags: tuple[str, ...]
    metrics: Metrics
    note: str | None
    note_error: str = ""
    """Why the note could not be read."""


class RunRow(_Noted):
    """A row of `runs list`; a trial has its sweep's tags too."""

    state: RunState
    model: str | None
    dataset: str | None
    workers: Workers | None
    submitted: float | None
    sweep: str = ""
    epoch: int | None
    step: int | None
    steps: int | None
    attempts: int
    started: float | None
    finished: float | None
    error: str | None


class DamagedRow(_Noted):
    """A row of `runs list` for a run whose documents cannot be read; `error` says which and why."""

    state: Literal[RunState.DAMAGED]
    submitted: None
    error: str

    model: ClassVar[None] = None
    dataset: ClassVar[None] = None
    finished: ClassVar[None] = None
    sweep: ClassVar[str] = ""
