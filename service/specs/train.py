"""What to run: the specs that a user writes, checked in full before anything starts."""

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from service.errors import InvalidInput
from service.names import check_dataset_reference, check_run_id
from service.specs.choices import (
    AUGMENTATIONS,
    CALLBACKS,
    KERAS_SCHEDULES,
    OPTIMIZERS,
    REFUSED_CALLBACKS,
    SCHEDULES,
    canonical_optimizer,
)
from service.specs.expressions import flat, worked_out
from service.specs.generated import check_generated
from service.specs.parts import CheckpointPolicy, EarlyStopping, Evaluation, Frozen, Named, Resources, SpaceSpec
from service.specs.quantities import Duration, Fraction, Patterns, PositiveInt, StallLimit, Workers
from service.specs.tags import Tags

IMPORT_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*\Z")
REGISTERED_NAME = re.compile(r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?\Z")

SEEDS_END = 2**31
"""Seeds are below."""


WEIGHT_FILES = (".keras", ".safetensors")
ALL_BUT_HEAD = "all-but-head"
BALANCED = "balanced"


def _class_weights(value: Any) -> Any:
    """YAML's keys may be numbers; classes are texts."""
    if value is None or value == BALANCED:
        return value
    if not isinstance(value, dict) or not value:
        raise ValueError(f"it must be {BALANCED} or numbers by class, such as {{cat: 1, dog: 2.5}}, not {str(value)[:60]!r}")
    for name, weight in value.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise ValueError(f"the weight of {str(name)[:60]!r} must be a finite number of at least 0, not {str(weight)[:60]!r}")
    if not any(value.values()):
        raise ValueError("some weight must be above 0, for what weighs nothing is not learned")
    return {str(name): float(weight) for name, weight in value.items()}


class TrainSpec(Frozen):
    """One training of one model on one dataset."""

    model: Annotated[str, Field(max_length=300)]
    """A registered name, or `my_package.nets:build`."""
    model_params: dict[str, Any] = Field({})
    """Here and in `optimizer`, `{expression: "0.3 / dataset_params.delay"}` is a number by other keys of the spec."""
    dataset: Annotated[str, Field(max_length=120)]
    """`name` or `name@version`."""
    dataset_params: dict[str, Any] = Field({})
    """Of a generated dataset: `{delay: 20, variant: recall}` for bits; see service.specs.generated."""
    training_examples: PositiveInt | None = None
    """Learn from so many examples of the training split, drawn by the seed in the classes' proportions; the validation
    share is held out before. With the same seed a smaller number is part of a larger one."""
    init_from: Annotated[str, Field(max_length=900)] | None = None
    """Begin with the weights of a run that succeeded, or of a `.keras` or `.safetensors` file by its key in the store:
    those of each layer whose name and shapes agree. The head is new when the classes differ. Target space begins with them
    where `space.initial` is `weights`."""
    freeze: Patterns = ()
    """Layers that do not learn, by name or pattern (`conv2d*`); `all-but-head` is all but the last one with weights."""
    input: Literal["auto", "memory", "stream"] = "auto"
    """`stream` reads the examples from the shards while it trains; `auto` does so for data that memory would not hold.
    Both give the same batches."""
    task: Annotated[str, Field(max_length=100)] = "classification"
    metrics: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()
    """Beside loss and accuracy, at evaluations and the test: `top_5` (or another number), `macro_f1`, `auc`; see service.specs.metric_names."""
    optimizer: Named = Named(name="adam", learning_rate=0.001)  # type: ignore[call-arg]
    space: SpaceSpec = SpaceSpec()
    """`weight`, or `target`, or a mapping with the keys of target space."""
    callbacks: tuple[Named, ...] = ()
    """Keras callbacks by name, or `my_package.module:make`, with their arguments."""
    package_data: Patterns = ()
    """Files that your own modules need beside their code, which alone travels to a cluster: paths and patterns relative to the folder
    in which the command is started, such as `my_package/words.txt` or `my_package/**/*.json`."""
    scale: bool = True
    """Hand pictures to the model divided by what they are stored up to: 0 to 255 as 0 to 1. With false it gets the stored values, as
    float32, for a model that scales by itself, as with Rescaling(1/255); `predict` and `export` do the same."""
    augment: tuple[Named, ...] = ()
    """Random changes of the training images, by name: `{name: flip}`, `{name: shift, pixels: 4}`."""
    label_smoothing: Fraction = 0.0
    class_weight: Annotated[Literal["balanced"] | dict[str, float] | None, BeforeValidator(_class_weights)] = None
    """What the training loss of an example is multiplied with, by its class's name or number, 1 for others; `balanced` is n/(k·count) over
    what is trained on, n examples of k classes. The loss of a batch is Σ w·l / batch, as in Keras; `val_` and `test_` are unweighted."""
    sample_weight: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """A feature of the dataset, one number for each example, that its training loss is multiplied with; the model does not get it."""
    epochs: PositiveInt | None = None
    steps: PositiveInt | None = None
    """Replaces `epochs`: the number of optimizer steps in all."""
    batch: PositiveInt = 128
    """Examples a step, over all workers."""
    seed: Annotated[int, Field(ge=0, lt=SEEDS_END, strict=True)] = 0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    jit_compile: bool = False
    workers: Workers = (1, 1)
    worker: Resources = Resources()
    evaluate: Evaluation = Evaluation()
    checkpoint: CheckpointPolicy = CheckpointPolicy(every_epochs=1)
    early_stopping: EarlyStopping | None = None
    log_every: PositiveInt = 50
    """Steps between rows of metrics."""
    retries: Annotated[int, Field(ge=0, le=1000, strict=True)] = 3
    stall_limit: StallLimit = 1800.0
    """Seconds without a step, a part of an evaluation or a checkpoint after which an attempt is ended and tried again, as for lost
    workers; each worker's stacks are in its log. At least 20 times the longest gap so far; `off` waits for ever."""
    time_limit: Duration | None = None
    """Seconds for the whole run, all attempts together."""
    tags: Tags = ()
    """Labels by which `runs list --tag` finds the run; they change nothing of what is trained."""

    @model_validator(mode="after")
    def _cross_checks(self) -> Self:
        if not (REGISTERED_NAME.match(self.model) or IMPORT_REFERENCE.match(self.model)):
            raise ValueError(f"model must be a registered name such as cnn, or my_package.nets:build, not {self.model[:60]!r}")
        check_dataset_reference(self.dataset)
        check_generated(self.dataset, self.dataset_params, self.task)
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        self._check_sharing()
        self._check_names()
        _check_first_weights(self.init_from, self.freeze)
        if self.init_from is not None and self.space.name == "target" and self.space.initial == "random":
            raise ValueError(
                "space.initial=random draws first targets in the place of the weights that init_from gives: "
                "use -s space.initial=weights, or leave init_from out"
            )
        if self.space.name == "target" and self.precision != "float32":
            raise ValueError(f"space=target solves in float32 and float64: use precision=float32, not {self.precision}")
        stopping = self.early_stopping
        if stopping and stopping.restore_best and self.checkpoint.keep_best < 1:
            raise ValueError("early_stopping.restore_best needs checkpoint.keep_best of at least 1")
        if stopping and stopping.metric.startswith("val_") and self.evaluate.validation == 0:
            raise ValueError(f"early_stopping.metric {stopping.metric} needs evaluate.validation above 0")
        return self

    def _check_sharing(self) -> None:
        fewest, most = self.workers
        if not 1 <= fewest <= most <= 4096:
            raise ValueError(f"workers must be at least 1, at most 4096 and in order, not {fewest}-{most}")
        if fewest > self.batch:
            raise ValueError(
                f"{fewest} workers cannot share a batch of {self.batch}: use at most {self.batch} workers or a larger batch"
            )
        if 0 < self.worker.gpus < 1 and most > 1:
            raise ValueError(
                f"{fewest} workers of {self.worker.gpus:g} GPUs would share one: use worker.gpus=1, or 1 worker that shares a GPU"
                if fewest == most
                else f"up to {most} workers of {self.worker.gpus:g} GPUs would share one: use worker.gpus=1, or 1 worker"
            )
        if not self.worker_counts:
            shown = str(fewest) if fewest == most else f"{fewest} to {most}"
            raise ValueError(
                f"a batch of {self.batch} cannot be shared out equally by {shown} workers: "
                f"use a batch that is a multiple, such as {-(-self.batch // fewest) * fewest}"
            )

    def _check_names(self) -> None:
        for pattern in self.package_data:
            _check_package_data(pattern)
        if canonical_optimizer(self.optimizer.name) not in OPTIMIZERS:
            raise ValueError(f"there is no optimizer {self.optimizer.name[:60]!r}; use {', '.join(sorted(OPTIMIZERS))}")
        _check_learning_rate(self.optimizer_arguments.get("learning_rate", 0.001))
        self._check_expressions()
        for change in self.augment:
            if change.name not in AUGMENTATIONS:
                raise ValueError(f"augment has the unknown change {change.name[:60]!r}; use {', '.join(sorted(AUGMENTATIONS))}")
        for callback in self.callbacks:
            _check_callback(callback.name)

    @property
    def worker_counts(self) -> tuple[int, ...]:
        """The numbers of workers within the range that share out the batch equally, largest first."""
        fewest, most = self.workers
        return tuple(n for n in range(min(most, self.batch), fewest - 1, -1) if self.batch % n == 0)

    @property
    def user_module(self) -> str | None:
        """The module of a user's own model, or None for a registered one."""
        module, separator, _ = self.model.partition(":")
        return module if separator else None

    def _check_expressions(self) -> None:
        worked_out(self.model_params, flat(self.document()))

    @property
    def model_arguments(self) -> dict[str, Any]:
        """`model_params`, expressions worked out; raise ValueError."""
        found: dict[str, Any] = worked_out(self.model_params, flat(self.document()))
        return found

    @property
    def optimizer_arguments(self) -> dict[str, Any]:
        """Those of `optimizer`, expressions worked out; raise ValueError."""
        found: dict[str, Any] = worked_out(self.optimizer.arguments, flat(self.document()))
        return found

    def document(self) -> dict[str, Any]:
        """The spec as the store and JSON output have it: `workers` as a number or as `2-8`."""
        document = self.model_dump(mode="json", exclude_none=True, exclude=None if self.tags else {"tags"})
        fewest, most = self.workers
        return {**document, "workers": fewest if fewest == most else f"{fewest}-{most}"}


def _check_first_weights(init_from: str | None, freeze: tuple[str, ...]) -> None:
    if init_from is None:
        if freeze:
            raise ValueError(
                "freeze needs init_from, for random weights that never learn are of no use: leave it out, or freeze=[]"
            )
        return
    if not init_from.endswith(WEIGHT_FILES):
        try:
            check_run_id(init_from)
        except InvalidInput:
            raise ValueError(
                f"init_from must be a run's id, or the key of a .keras or .safetensors file in the store, not {init_from[:60]!r}"
            ) from None


def _check_learning_rate(rate: Any) -> None:
    expected = "it must be a number above 0 or a schedule such as {name: cosine, initial: 0.002}"
    if not isinstance(rate, dict):
        if isinstance(rate, bool) or not isinstance(rate, int | float) or rate <= 0:
            raise ValueError(f"optimizer.learning_rate is {str(rate)[:60]!r}, but {expected}")
        return
    name = rate.get("name")
    if name not in SCHEDULES | KERAS_SCHEDULES:
        known = ", ".join([*sorted(SCHEDULES), *sorted(KERAS_SCHEDULES)])
        raise ValueError(f"there is no learning rate schedule {str(name)[:60]!r}; use one of {known}")


def _check_package_data(pattern: str) -> None:
    if not pattern.strip() or "\\" in pattern or not pattern.isprintable() or ".." in pattern.split("/") or pattern[0] in "/~":
        raise ValueError(
            f"package_data has {pattern[:60]!r}: write files or patterns relative to the folder of the command, "
            "such as my_package/words.txt or my_package/**/*.json"
        )


def _check_callback(name: str) -> None:
    if name in REFUSED_CALLBACKS:
        raise ValueError(f"the callback {name} does not work here: {REFUSED_CALLBACKS[name]}")
    if name not in CALLBACKS and not IMPORT_REFERENCE.match(name):
        raise ValueError(
            f"there is no callback {name[:60]!r}; use {', '.join(sorted(CALLBACKS))}, or your own as my_package.module:make"
        )
