"""What to sweep: a base, the space of its values to search, and how; checked in full before anything starts."""

import json
import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from service.specs.expressions import Expression
from service.specs.parts import CheckpointPolicy, Evaluation, Frozen
from service.specs.quantities import Duration, PositiveInt, Workers
from service.specs.tags import Tags
from service.specs.train import SEEDS_END

MOST_VALUES = 10_000
FIXED = ("workers", "worker", "retries", "time_limit", "init_from", "tags")
"""Keys that all trials share: they say where and how long a trial runs, not what it learns."""
Values = Annotated[tuple[Any, ...], Field(min_length=1, max_length=MOST_VALUES)]
Range = tuple[float, float]


class Parameter(Frozen):
    """How one key of the spec varies: exactly one of these."""

    grid: Values | None = None
    """Each of these values."""
    choice: Values | None = None
    """One of these values, drawn anew for each point."""
    uniform: Range | None = None
    """A number between two."""
    loguniform: Range | None = None
    """A number between two above 0, whose logarithm is uniform."""
    integers: tuple[Annotated[int, Field(strict=True)], Annotated[int, Field(strict=True)]] | None = None
    """A whole number from the first to the second, both among them."""
    expression: str | None = None
    """Arithmetic on other values."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name, value in self if value is not None]
        if len(given) != 1:
            kinds = ", ".join(type(self).model_fields)
            raise ValueError(f"give exactly one of {kinds}, not {' and '.join(given) if given else 'none'}")
        for low, high in (pair for pair in (self.uniform, self.loguniform, self.integers) if pair is not None):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"a range needs a lower and a higher end, not [{low:g}, {high:g}]")
        if self.loguniform is not None and self.loguniform[0] <= 0:
            raise ValueError(f"loguniform needs ends above 0, not {self.loguniform[0]:g}")
        listed = self.grid or self.choice or ()
        if len({json.dumps(value, sort_keys=True) for value in listed}) < len(listed):
            raise ValueError("a value appears twice; to repeat points use seeds")
        if self.expression is not None:
            Expression.parse(self.expression)
        return self

    @property
    def kind(self) -> str:
        """`grid`, `choice`, `uniform`, `loguniform`, `integers` or `expression`."""
        return next(name for name, value in self if value is not None)


class Scheduler(Frozen):
    """What becomes of trials before their end, going by `metric` at each evaluation.

    `asha` and `median` stop the worse ones. With `pbt` the worse ones copy the weights and the values of better ones,
    vary the values and continue (population based training, Jaderberg et al. 2017).
    """

    name: Literal["none", "asha", "median", "pbt"] = "none"
    grace_epochs: PositiveInt = 1
    """No trial is stopped before it was evaluated so often. PBT: trials are compared each time they were evaluated so often."""
    reduction: Annotated[int, Field(ge=2, le=100)] = 3
    """ASHA: one of so many trials continues past each rung, and the next rung is so many times as far (Li et al. 2020)."""
    quantile: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """PBT: this share of the trials, the worst, copy the same share, the best."""
    resample: Annotated[float, Field(ge=0, le=1)] = 0.25
    """PBT: how likely a value is drawn anew; else it becomes 0.8 or 1.2 times as large, a listed one its neighbour."""

    @property
    def learns_again(self) -> bool:
        """Whether a new driver must report to it again what trials reported to an earlier one."""
        return self.name in ("asha", "median")


def parse_scheduler(value: Any) -> Any:
    """`asha` is short for `{name: asha}`."""
    return {"name": value} if isinstance(value, str) else value


def parse_parallel(value: Any) -> Any:
    """`auto` is None: as many as fit."""
    return None if value == "auto" else value


class Base(Frozen):
    """A spec that trials begin from, `values` as plain as in a file, and its name in tables and charts."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    values: dict[str, Any]


class SweepSpec(Frozen):
    """Trials over a search space, each of which is a run."""

    base: Annotated[tuple[Base, ...], Field(min_length=1, max_length=100)]
    """One, or several whose every point is tried with each."""
    space: dict[Annotated[str, Field(min_length=1, max_length=200)], Parameter]
    seeds: Annotated[int, Field(ge=1, le=1000, strict=True)] = 1
    """Each point so often, with the base's seed and those after it."""
    search: Literal["grid", "random", "tpe"] = "grid"
    """`grid`: all combinations of the grids; `random`: draws; `tpe`: draws where it was good (Bergstra et al. 2011)."""
    order: Literal["nested", "spread"] | None = None
    """Of the combinations: as in nested loops, or spread evenly. The default is `spread` where `trials` is less than there are combinations."""
    scheduler: Annotated[Scheduler, BeforeValidator(parse_scheduler)] = Scheduler()
    metric: Annotated[str, Field(min_length=1, max_length=100)] = "val_accuracy"
    mode: Literal["min", "max"] = "max"
    trials: PositiveInt | None = None
    """At most so many trials, seeds counted."""
    budget: Duration | None = None
    """Seconds after which no trial begins and those under way are stopped."""
    parallel: Annotated[Annotated[int, Field(ge=1, le=100_000, strict=True)] | None, BeforeValidator(parse_parallel)] = None
    """Trials side by side; `auto`: as many as fit."""
    together: Literal["auto", "never"] = "auto"
    """`auto`: small trials of the same shapes train together, as one computation; see service.sweeps.grouping."""
    workers: Workers = (1, 1)
    """For each trial."""
    seed: Annotated[int, Field(ge=0, lt=SEEDS_END, strict=True)] = 0
    """Of what is drawn from the space."""
    tags: Tags = ()
    """Labels by which `runs list --tag` finds the sweep, and with `--trials` its trials."""

    @model_validator(mode="after")
    def _cross_checks(self) -> Self:
        for key in self.space:
            if key.partition(".")[0] in FIXED:
                raise ValueError(f"space.{key} cannot vary: all trials have the same {key.partition('.')[0]}")
        if "seed" in self.space and self.seeds > 1:
            raise ValueError("space.seed and seeds contradict each other: leave one of them out")
        clash = next((key for key in self.space for other in self.space if other.startswith(f"{key}.")), None)
        if clash is not None:
            raise ValueError(f"space.{clash} and a key within it cannot both vary: leave one of them out")
        if len({base.name for base in self.base}) < len(self.base):
            raise ValueError("base names the same spec twice; to repeat points use seeds")
        for key, parameter in self.space.items():
            self._check_expression(key, parameter, ())
        if self.scheduler.name == "pbt":
            self._check_population()
            for key, parameter in self.space.items():
                _check_varied(key, parameter)
        return self

    @model_validator(mode="after")
    def _choose_order(self) -> Self:
        """Fix the order when the sweep is first submitted: a resumed sweep may change `trials`, but not the order."""
        if self.order is None and self.combinations > 1:
            cut = self.trials is not None and self.trials // self.seeds < self.combinations
            # The only way past a frozen model; what is chosen here is not among what was given, `model_fields_set`.
            object.__setattr__(self, "order", "spread" if cut else "nested")
        return self

    def _check_population(self) -> None:
        """PBT copies checkpoints from trial to trial, of which there are so many from the beginning to the end."""
        if len(self.base) > 1:
            raise ValueError(f"the scheduler pbt copies weights from trial to trial: give one base, not {len(self.base)}")
        if self.seeds > 1:
            raise ValueError(
                "seeds repeat a point, but the scheduler pbt changes points while they train: leave seeds out and give more trials"
            )
        if self.search == "tpe":
            raise ValueError(
                "the scheduler pbt begins all trials before one has ended, of which search: tpe learns: use search: random"
            )
        if self.is_drawn and self.trials is None:
            raise ValueError("the scheduler pbt needs to know how many trials there are: give trials, such as trials: 8")
        if self.workers != (1, 1):
            raise ValueError("the scheduler pbt needs trials of one worker: use workers: 1")
        values = self.base[0].values
        policy = CheckpointPolicy.model_validate(values.get("checkpoint") or {})
        every = Evaluation.model_validate(values.get("evaluate") or {}).every_epochs
        if policy.every_epochs is None or every % policy.every_epochs:
            raise ValueError(
                "the scheduler pbt copies the checkpoint of an evaluation, but the base saves none then: "
                f"use base.checkpoint={{every_epochs: {every}}}"
            )

    def _check_expression(self, key: str, parameter: Parameter, above: tuple[str, ...]) -> None:
        if key in above:
            raise ValueError(f"the expressions of space go in a circle: {' -> '.join((*above, key))}")
        if parameter.expression is None:
            return
        for name in sorted(Expression.parse(parameter.expression).names):
            if name in self.space:
                self._check_expression(name, self.space[name], (*above, key))

    @property
    def grids(self) -> dict[str, tuple[Any, ...]]:
        """The values of each key that is enumerated; all others are drawn."""
        return {key: parameter.grid for key, parameter in self.space.items() if parameter.grid and self.search == "grid"}

    @property
    def combinations(self) -> int:
        """How many points it takes to see each value of the grids with each other and with each base once."""
        return len(self.base) * math.prod(len(values) for values in self.grids.values())

    @property
    def is_drawn(self) -> bool:
        """Whether there are points without end: the search draws, or has no grid to go through."""
        ranges = any(parameter.expression is None for parameter in self.space.values())
        return self.search != "grid" or (ranges and not self.grids)

    def document(self) -> dict[str, Any]:
        """The spec as the store has it: every key that is given."""
        document = self.model_dump(mode="json", exclude_none=True, exclude=None if self.tags else {"tags"})
        fewest, most = self.workers
        return {**document, "workers": fewest if fewest == most else f"{fewest}-{most}"}


_VARIED = (
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "optimizer.momentum",
    "optimizer.beta_1",
    "optimizer.beta_2",
    "optimizer.rho",
    "optimizer.epsilon",
    "optimizer.clipnorm",
    "optimizer.clipvalue",
    "optimizer.global_clipnorm",
    "label_smoothing",
    "model_params.dropout",
)
"""What can change in the middle of a run: the variables of the model and of the optimizer stay the same."""
_WITH_VARIABLES = ("optimizer.momentum", "model_params.dropout")
"""Those that have variables of their own, but none at 0."""


def _check_varied(key: str, parameter: Parameter) -> None:
    """Whether the scheduler pbt can vary a key."""
    if key not in _VARIED and not key.startswith("optimizer.learning_rate."):
        raise ValueError(
            f"the scheduler pbt changes values in the middle of a run, which space.{key} cannot: it can vary "
            f"{', '.join(_VARIED)}, and the numbers of a schedule, such as optimizer.learning_rate.initial"
        )
    listed = parameter.grid or parameter.choice or ()
    for value in listed:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"the scheduler pbt varies numbers, but space.{key} lists {json.dumps(value)[:60]}")
        if value == 0 and len(listed) > 1 and key in _WITH_VARIABLES:
            raise ValueError(
                f"space.{key} lists 0, with which a trial lacks variables that others have: the scheduler pbt needs values above 0"
            )
