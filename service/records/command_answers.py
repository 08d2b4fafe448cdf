"""What the commands print with `--json` of anything but runs, and the schemas of all."""

import ast
import inspect
import itertools
import textwrap
from typing import Any, Literal

from pydantic import Field, JsonValue, TypeAdapter

from service.records.answers import Answer, DamagedRow, Run, RunRow
from service.records.model_answers import Exported, Predictions
from service.records.submission_schemas import Kind


class Feature(Answer):
    """One array of each example. A model gets `uint8` values divided by `scale`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float
    columns: tuple[str, ...] = ()
    one_hot: dict[str, tuple[str, ...]] = Field(default_factory=dict)


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
    """What `train` or `sweep` would do: `--dry-run`."""

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
    submission: dict[str, JsonValue] | None = None
    """What is sent to a cluster elsewhere, as it takes it, with the files to upload; nothing for one on this machine."""


class VerifiedDataset(Answer):
    """What `data verify` found of a dataset's shards; without `problems` they are whole."""

    name: str
    version: str
    shards: int
    problems: tuple[str, ...]


class Note(Answer):
    """A person's note on a run, None without one."""

    id: str
    note: str | None


class Log(Answer):
    """What one process of an attempt printed; `rank` is None for the driver."""

    attempt: int
    rank: int | None
    text: str


class PrunedRun(Answer):
    """A run that `runs prune` deletes; `last`: when it ended, or else last changed. `refused` says why it stays."""

    id: str
    state: str
    model: str | None
    dataset: str | None
    last: float
    objects: int
    bytes: int
    deleted: bool
    refused: str | None


class PrunedPackages(Answer):
    """Users' code that no run refers to."""

    deleted: int
    bytes: int


class PrunedUploads(Answer):
    """Uploads that killed writers left."""

    found: int
    dropped: int
    bytes: int


class Pruned(Answer):
    """What `runs prune` deleted, or would: then nothing in it is `deleted`."""

    runs: tuple[PrunedRun, ...]
    deleted: int
    bytes: int
    packages: PrunedPackages
    uploads: PrunedUploads


class Report(Answer):
    """Where the report of a run is: its `key` in the store, and the file that a browser opens."""

    run: str
    key: str
    path: str


class Comparison(Answer):
    """Where the page is that sets runs side by side."""

    runs: tuple[str, ...]
    path: str


class DoctorCheck(Answer):
    """A check of `doctor`; `text` says what is there, or the remedy."""

    check: str
    status: Literal["ok", "failed", "not checked"]
    text: str
    seconds: float


class Diagnosis(Answer):
    """What `doctor` found; `ok`: no check failed."""

    ok: bool
    checks: tuple[DoctorCheck, ...]


class Recipe(Answer):
    """A spec that ships with Delayline, of a run or of a sweep."""

    name: str
    description: str
    reference: str
    """The figure of the lecture or paper."""
    reached: str
    spec: dict[str, JsonValue] | None = None
    sweep: dict[str, JsonValue] | None = None


ANSWERS: dict[str, tuple[Any, str]] = {
    "run": (Run, "a run or a sweep: runs show, runs watch, runs cancel, train, sweep"),
    "runs": (list[RunRow | DamagedRow], "runs list"),
    "plan": (Plan, "train --dry-run, sweep --dry-run"),
    "dataset": (Dataset, "data show, data import"),
    "datasets": (list[DatasetRow], "data list"),
    "verified": (VerifiedDataset, "data verify"),
    "note": (Note, "runs note"),
    "logs": (list[Log], "runs logs"),
    "pruned": (Pruned, "runs prune"),
    "report": (Report, "runs report"),
    "comparison": (Comparison, "runs compare"),
    "doctor": (Diagnosis, "doctor"),
    "recipe": (Recipe, "recipes NAME"),
    "recipes": (list[Recipe], "recipes"),
    "predictions": (Predictions, "predict"),
    "export": (Exported, "export"),
}
"""By the name that `delayline schema` takes: what is printed, and by which commands."""


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema, of draft 2020-12, of one of the ANSWERS."""
    made = TypeAdapter(ANSWERS[name][0]).json_schema()
    _describe(made, str(made.get("title")))
    for title, each in made.get("$defs", {}).items():
        _describe(each, title)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": name}


def _describe(schema: dict[str, Any], title: str) -> None:
    """Add what stands below the fields of a model: read here, for pydantic would read it whenever the module is imported."""
    model = _answers().get(title)
    if model is None:
        return
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    lines = body.body if isinstance(body, ast.ClassDef) else []
    for field, below in itertools.pairwise(lines):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            text = ast.literal_eval(below.value)
            schema["properties"].get(field.target.id, {}).setdefault("description", inspect.cleandoc(text))


def _answers(base: type[Answer] = Answer) -> dict[str, type[Answer]]:
    """All kinds of answers by their names."""
    below = base.__subclasses__()
    return {each.__name__: each for each in below} | {name: each for kind in below for name, each in _answers(kind).items()}
