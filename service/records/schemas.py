"""What the documents of a run hold."""

from enum import StrEnum
from typing import Self

from pydantic import Field, JsonValue

from service.errors import LOST, DelaylineError
from service.records.stored_document import StoredDocument
from service.records.submission_schemas import SubmissionDocument, Summary
from service.records.sweep_schemas import Best, TableRow


class RunState(StrEnum):
    """How a run or a sweep stands.

        queued ──> starting ──> running ──> succeeded | failed | cancelled
                      │          │   ^
                      └──────────┴─> retrying

    - `queued`: submitted; no driver has written anything.
    - `starting`: a driver has the run's lease, and its first attempt waits for room or starts its workers. Each new driver begins
      here, also of a run that was lost, interrupted or, with `--resume`, had ended.
    - `running`: the workers of the newest attempt train; a sweep hands out trials.
    - `retrying`: an attempt failed for a reason that another one may not meet. It remains so until the next attempt trains. With the
      `reason` `signal` the system stopped the driver: any submission of the run continues it.
    - `succeeded`, `failed`, `cancelled`: ended. A run that nobody drives can come here from every state before.
    - `lost`, `damaged`: in no document. A reader calls a run lost that has not ended and that nobody alive drives, and damaged where
      its documents cannot be read.
    """

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    DAMAGED = "damaged"

    @property
    def is_ended(self) -> bool:
        """Whether no driver resumes the run unless a person asks for it."""
        return self in _ENDED


_ENDED = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})
ENDED: frozenset[str] = frozenset(state for state in RunState if state.is_ended)
"""The states in which a run has ended, for a state that stands as text in a document."""


SIGNAL = "signal"
"""Why a run stopped that the system stopped; who asked its workers to."""
Metrics = dict[str, JsonValue]


class Failure(StoredDocument):
    """Why a worker, an attempt or a run failed."""

    message: str
    kind: str | None = None
    """Whose fault: `user`, `infrastructure`, `store`, `lease`, `invalid` or `time limit`."""
    exit_code: int | None = None
    rank: int | None = None
    traceback: str = ""
    time: float | None = None
    stalled: bool = False
    passing: bool = False
    """Of a refusal of the store that may be otherwise at the next attempt."""

    @classmethod
    def of(cls, error: DelaylineError) -> Self:
        """What a run's state holds of the error that ended it."""
        return cls.model_validate(error.document())


class Worker(StoredDocument):
    """One worker of an attempt."""

    rank: int
    host: str
    pid: int
    node: str | None = None
    """The id of its node in a Ray cluster."""


class Attempt(StoredDocument):
    """One try to train a run; times in seconds since 1970, `seconds` by the driver's own clock."""

    number: int
    started: float
    workers: tuple[Worker, ...] = ()
    finished: float | None = None
    reason: str | None = None
    seconds: float | None = None
    saved: int | None = None
    """The step of the newest checkpoint at its end."""
    analysis: bool = False
    """Whether it was for the analysis of a trained run alone."""


class Position(StoredDocument):
    """How far a training is."""

    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None


class Waiting(StoredDocument):
    """For what a driver waits, and since when, in seconds since 1970."""

    since: float
    message: str


class StateDocument(StoredDocument):
    """`state.json`: how the run stands, by its driver."""

    state: RunState
    attempts: tuple[Attempt, ...] = ()
    attempt: int | None = None
    """The number of the newest attempt."""
    first_attempt: int = 1
    """The first attempt since a person last asked for the run."""
    started: float | None = None
    finished: float | None = None
    metrics: Metrics = Field(default_factory=dict)
    position: Position | None = None
    error: Failure | None = None
    exit_code: int | None = None
    reason: str | None = None
    waiting: Waiting | None = None
    summary: Summary | None = None
    handled_cancel: str | None = None
    used_seconds: float | None = None
    """Of a sweep: how much of its budget is used up."""

    @property
    def is_ended(self) -> bool:
        """Whether no driver continues the run unless a person asks for it."""
        return self.state.is_ended

    @property
    def was_interrupted(self) -> bool:
        """Whether the system stopped the run's last driver, which saved and left the rest to the next one."""
        return self.state == RunState.RETRYING and self.reason == SIGNAL

    @property
    def was_lost(self) -> bool:
        """Whether the run failed by what neither its spec nor its data caused."""
        return self.state == RunState.FAILED and self.error is not None and self.error.kind in LOST

    def attempts_with(self, progress: "ProgressDocument") -> tuple[Attempt, ...]:
        """The attempts; rank 0 knows the workers of the newest one before the driver notes them."""
        return tuple(
            each if each.workers else each.changed(workers=progress.workers if each.number == progress.attempt else ())
            for each in self.attempts
        )

    def with_newest_attempt(self, **changes: object) -> Self:
        """A copy whose newest attempt has other values."""
        return self.changed(attempts=(*self.attempts[:-1], self.attempts[-1].changed(**changes)))


class LeaseAttempt(StoredDocument):
    """How long the attempt under way has run."""

    number: int
    seconds: float


class LeaseDocument(StoredDocument):
    """`lease.json`: who drives the run."""

    token: str
    host: str
    boot: str = ""
    pid: int
    pid_ticks: int | None = None
    pid_started: float | None = None
    heartbeat: float | None = None
    beat: int | None = None
    released: bool = False
    attempt: LeaseAttempt | None = None


class ProgressDocument(StoredDocument):
    """`progress.json`: where the training stands, by rank 0; of a sweep, by its driver."""

    nonce: str | None = None
    """Of the run that it is of; none in the first format."""
    attempt: int = 0
    phase: str | None = None
    time: float | None = None
    workers: tuple[Worker, ...] = ()
    model_summary: str | None = None
    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None
    metrics: Metrics = Field(default_factory=dict)
    examples_per_second: float | None = None
    eta_seconds: float | None = None
    idle_seconds: float | None = None
    timing: dict[str, JsonValue] | None = None
    trials: dict[str, int] | None = None
    """Of a sweep: how many trials are in each state; with what follows."""
    total: int | None = None
    used_seconds: float | None = None
    best: Best | None = None
    table: tuple[TableRow, ...] | None = None

    def is_of(self, submission: SubmissionDocument) -> bool:
        """Whether it is not that of a deleted run of the same id."""
        return self.nonce is None or self.nonce == submission.nonce

    @property
    def position(self) -> Position:
        """How far the training is."""
        return Position(epoch=self.epoch, epochs=self.epochs, step=self.step, steps=self.steps)


class NoteDocument(StoredDocument):
    """`note.json`: a person's note; without a text it was taken back."""

    text: str = ""
    written: float | None = None
    nonce: str = ""


class Event(StoredDocument):
    """A row of `events/`: what happened. Which further keys there are depends on the event."""

    time: float
    event: str
    message: str = ""
    attempt: int | None = None


class Row(StoredDocument):
    """A row of `metrics/`: the figures at a step, each under its metric's name."""

    step: int
    epoch: int | None = None
    time: float | None = None
    """In seconds since 1970."""

    @property
    def metrics(self) -> Metrics:
        """What stands in it beside these."""
        return self.model_extra or {}

    def value(self, metric: str) -> float | None:
        """A metric's figure, None where the row has none."""
        found = self.metrics.get(metric)
        return float(found) if isinstance(found, int | float) else None
