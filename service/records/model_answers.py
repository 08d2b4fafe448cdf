"""What the commands that ask a run's model print with `--json`: `predict` and `export`."""

from pydantic import AliasChoices, Field

from service.records.answers import Answer

_CLASS = AliasChoices("class", "of_class")


class RankedClass(Answer):
    """A class and how probable the model finds it."""

    of_class: str = Field(validation_alias=_CLASS, serialization_alias="class")
    probability: float


class Prediction(Answer):
    """What the model answers to one example of a file; `index` where the file holds several.

    Of a classifier: the `class`, its `probability`, and the `top` ones. Of a task on bits: `bits`, one for each step and `.` for the
    first ones, which are not asked for, and the `probabilities` that they are a 1.
    """

    file: str
    index: int | None
    notes: tuple[str, ...]
    of_class: str | None = Field(default=None, validation_alias=_CLASS, serialization_alias="class")
    probability: float | None = None
    top: tuple[RankedClass, ...] = ()
    bits: str | None = None
    probabilities: tuple[float, ...] = ()


class Predictions(Answer):
    """What `predict` prints: a row for each example."""

    run: str
    classes: tuple[str, ...]
    predictions: tuple[Prediction, ...]


class ExportedFormat(Answer):
    """One format of an export; `metrics` of what was written, None where that was not checked."""

    path: str
    metrics: dict[str, float] | None
    not_checked: str | None = None
    """Why not."""


class Exported(Answer):
    """What `export` wrote; `examples` of the `test_examples` were asked of each format, and the model's own `metrics` on them."""

    run: str
    folder: str
    examples: int
    test_examples: int | None
    metrics: dict[str, float] | None = None
    formats: dict[str, ExportedFormat]
