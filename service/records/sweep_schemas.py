"""What the documents of a sweep hold."""

from pydantic import AliasChoices, Field, JsonValue

from service.records.stored_document import StoredDocument

Params = dict[str, JsonValue]
"""The values of a point by the keys of the sweep's space."""


class Base(StoredDocument):
    """A base of a sweep's spec: `values` are a spec of a run."""

    values: dict[str, JsonValue]


class Bases(StoredDocument):
    """What a list shows of a sweep's spec."""

    base: tuple[Base, ...]


class Stopped(StoredDocument):
    """Why a sweep ended a trial early."""

    by: str
    evaluation: int | None = None
    """After how many of its evaluations."""
    message: str | None = None


class Mutation(StoredDocument):
    """What a trial took over, and from which step of which trial."""

    step: int | None
    donor: str = Field(validation_alias=AliasChoices("donor", "from"), serialization_alias="from")
    params: Params


class Trial(StoredDocument):
    """One trial of a sweep; it is a run of its own under `id`."""

    id: str
    number: int
    point: int
    base: str
    params: Params
    seed: int
    stopped: Stopped | None = None
    pauses: bool = False
    first_params: Params | None = None
    mutations: tuple[Mutation, ...] = ()


class TrialsDocument(StoredDocument):
    """`trials.json`: a sweep's trials in the order of their begin."""

    trials: tuple[Trial, ...] = ()


class PointRow(StoredDocument):
    """A point: `mean` and `spread` (the sample's standard deviation, None for one) of the metric over `count` of its trials."""

    point: int
    base: str
    params: Params
    mean: float | None
    spread: float | None
    count: int
    trials: tuple[str, ...]
    states: tuple[str, ...]


class Best(PointRow):
    """A sweep's best point by its `metric`, and the best of its trials."""

    mean: float
    metric: str
    trial: str


class TableRow(StoredDocument):
    """A trial in the table that lives; `value` is its metric, `mutations` how often it took another trial's weights."""

    id: str
    base: str
    params: Params
    seed: int
    state: str
    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None
    value: float | None = None
    stopped: Stopped | None = None
    mutations: int = 0
