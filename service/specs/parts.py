"""The parts of a spec: what each is for, its defaults, and what does not go together within it."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

from service.specs.quantities import Fraction, PositiveInt, Size

MOST_PATIENCE = 10**6
"""Evaluations that are waited for where only a goal ends a run (derived: no run has so many)."""


class Frozen(BaseModel):
    """Immutable; unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Resources(Frozen):
    """What each worker takes."""

    cpus: Annotated[float, Field(gt=0, le=4096)] = 1
    """Cores; TensorFlow uses as many threads, at least one."""
    gpus: Annotated[float, Field(ge=0, le=1)] = 0
    """GPUs; one worker is one MWMS replica and holds one at most. A part, such as 0.25, shares one with other runs and trials."""
    memory: Size | None = None
    """Bytes, or as 800MB or 4GiB: what a worker may count on. A cluster keeps it free for the worker, and data larger than
    half of it is streamed. Without it a worker has its share of what is free on its node when it starts."""


class SpaceSpec(Frozen):
    """What the optimizer changes: the weights, or targets that the weights are solved from (Fairbank et al., JMLR 23(8), 2022)."""

    name: Literal["weight", "target"] = "weight"
    ridge: Annotated[float, Field(gt=0, le=10**6)] = 0.001
    """λ of the solves: larger ones make them steadier and the weights smaller."""
    cascade: Literal["scu", "ocu"] = "scu"
    """What the next layer's solve sees: `scu` what the solved weights give, `ocu` the targets as if they were met. A recurrent
    layer's own solve is always optimistic."""
    realisation: PositiveInt = 100
    """The targets are for so many examples: the first training examples in stored order."""
    realisation_length: PositiveInt | None = None
    """Use only so many steps of their sequences."""
    initial: Literal["random", "weights"] = "random"
    """First targets: drawn, then projected onto what can be met; or the sums that the model's first weights give."""
    target_std: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """The standard deviation of the targets that are drawn."""

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, values: Any) -> Any:
        return {"name": values} if isinstance(values, str) else values

    @model_validator(mode="after")
    def _keys_of_target_space(self) -> Self:
        if self.name == "weight" and (given := sorted(self.model_fields_set - {"name"})):
            raise ValueError(f"space.{given[0]} is a key of target space: write space: {{name: target, {given[0]}: …}}")
        return self

    @model_serializer
    def _short(self) -> Any:
        """`weight` alone, for weights have no keys."""
        return self.name if self.name == "weight" else {name: getattr(self, name) for name in type(self).model_fields}


class Evaluation(Frozen):
    """When and on what to evaluate while training."""

    every_epochs: PositiveInt = 1
    validation: Fraction = 0.1
    """The share of the training split that is held out; a dataset's own `validation` split, where it has one, is judged instead
    unless this is 0. The test split is used once, at the end."""


class CheckpointPolicy(Frozen):
    """When to save and what to keep; `every_steps` replaces `every_epochs`."""

    every_epochs: PositiveInt | None = None
    every_steps: PositiveInt | None = None
    keep_last: PositiveInt = 2
    keep_best: Annotated[int, Field(ge=0, le=1000)] = 1

    @model_validator(mode="before")
    @classmethod
    def _default(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("every_epochs") is None and values.get("every_steps") is None:
            return {**values, "every_epochs": 1}
        return values

    @model_validator(mode="after")
    def _one_interval(self) -> Self:
        if self.every_epochs is not None and self.every_steps is not None:
            raise ValueError("give every_epochs or every_steps, not both")
        return self


class EarlyStopping(Frozen):
    """Stop when `metric` has not improved by `min_delta` for `patience` evaluations, or is better than `goal` twice running."""

    metric: str = "val_loss"
    mode: Literal["auto", "min", "max"] = "auto"
    """auto: min for a loss and what is no metric, max for an accuracy and the metrics of `metrics`."""
    patience: Annotated[int, Field(ge=0, le=MOST_PATIENCE)] = 3
    """Without end where a goal is given and this is not."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    goal: float | None = None
    restore_best: bool = False
    """End with the weights of the best evaluation, which is saved whenever checkpoints are due; needs `keep_best` of at least 1."""

    @model_validator(mode="before")
    @classmethod
    def _wait_for_the_goal(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("goal") is not None and values.get("patience") is None:
            return {**values, "patience": MOST_PATIENCE}
        return values


class Named(BaseModel):
    """Something of Keras by name with its arguments beside it: `{name: adam, learning_rate: 0.001}`."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    name: Annotated[str, Field(min_length=1, max_length=200)]

    @property
    def arguments(self) -> dict[str, Any]:
        """All keys but the name."""
        return dict(self.model_extra or {})
