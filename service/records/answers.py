"""What the commands print with `--json`."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter

from service.errors import LOST
from service.records.schemas import Attempt, Event, Failure, Kind, Metrics, Row, RunState, Waiting, Workers
from service.records.sweep_schemas import Best, Trial


class Answer(BaseModel):
    """What a command prints. What stands in it as the store has it may have more keys, of a newer version."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, use_attribute_docstrings=True)

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


class Feature(Answer):
    """One array of each example. A model gets `uint8` values divided by `scale`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float
    columns: tuple[str, ...] = ()
    one_hot: dict[str, tuple[str, ...]] = {}


class Shard(Answer):
    """One Parquet file of a dataset."""

    split: str
    key: str
    rows: int
    bytes: int
    sha256: str


class DatasetRow(Answer):
    """A version of a dataset in `data list`; `splits` are numbers of examples."""

    name: str
    version: str
    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    splits: dict[str, int]
    source: str
    imported: float
    embedded: bool
    notes: tuple[str, ...]
    ground: str = ""


class Dataset(DatasetRow):
    """A version of a dataset: `data show` and `data import`."""

    shards: tuple[Shard, ...]


class PlannedData(Answer):
    """The dataset of a plan, with the number of examples of each split."""

    name: str
    version: str
    training: int
    validation: int
    test: int


class PlannedResources(Answer):
    """What a run takes of its cluster; `memory` in bytes."""

    workers: tuple[int, ...]
    cpus_per_worker: float
    gpus_per_worker: float
    cpus: float
    gpus: float
    memory: float = 0


class Plan(Answer):
    """What `train` or `sweep` would do: `--dry-run`. What a cluster adds to it is the cluster's own."""

    model_config = ConfigDict(extra="allow")

    id: str
    kind: Kind
    spec: dict[str, JsonValue]
    dataset: PlannedData
    cluster: str
    store: str
    folder: str
    command: tuple[str, ...]
    init_from: dict[str, JsonValue] | None = None
    resources: PlannedResources | None = None
    """Of a run; of a sweep `resources_per_trial`."""
    resources_per_trial: PlannedResources | None = None
    trials: int | None = None
    points: int | None = None
    budget_seconds: float | None = None
    together: tuple[tuple[str, ...], ...] = ()
    first_trial: dict[str, JsonValue] | None = None


ANSWERS: dict[str, tuple[Any, str]] = {
    "run": (Run, "a run or a sweep: runs show, runs watch, runs cancel, train, sweep"),
    "runs": (list[RunRow | DamagedRow], "runs list"),
    "plan": (Plan, "train --dry-run, sweep --dry-run"),
    "dataset": (Dataset, "data show, data import"),
    "datasets": (list[DatasetRow], "data list"),
}
"""By the name that `delayline schema` takes: what is printed, and by which commands."""


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema, of draft 2020-12, of one of the ANSWERS."""
    made = TypeAdapter(ANSWERS[name][0]).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": name}
