"""Datasets that are generated from a spec's `dataset_params` and seed and are in no store: their parameters, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from service.errors import InvalidInput
from service.registry import task_named, tasks

VARIANTS = ("recall", "xor", "adder")
BITS = "bits"
CHANCE_OF_BITS = 0.5
"""The accuracy of guesses at bits."""
STEPS_AFTER_DELAY = 50
"""A sequence is by default so much longer than its delay (Fairbank et al. 2022, section 5.3)."""
LEAST_LENGTH = 2
"""One bit, and one step later to give it back."""
MOST_STEPS = 100_000
MOST_BITS = 100_000_000
"""In all training sequences: 0.8 GB of a worker's memory for them and as much for the test's (derived)."""


@dataclass(frozen=True)
class BitSequences:
    """The parameters of the dataset `bits`: random bits, a function of which the task asks for `delay` steps later.

    `recall`: the bit of `delay` steps before. `xor`: that and the current bit, exclusive or. `adder`: the binary sum of the
    current and the delayed stream, with carry. The first `delay` steps do not count.
    """

    delay: int = 20
    length: int = 0
    """Steps of a sequence; delay + 50 where it is left out."""
    sequences: int = 400
    """In the training split, and as many in the test split."""
    variant: str = "recall"
    fresh: bool = False
    """Other training sequences each epoch."""

    def __post_init__(self) -> None:
        for name in ("delay", "length", "sequences"):
            value = getattr(self, name)
            least = LEAST_LENGTH if name == "length" else 1
            left_out = name == "length" and value == 0
            if isinstance(value, bool) or not isinstance(value, int) or not (left_out or least <= value <= MOST_BITS):
                raise InvalidInput(
                    f"dataset_params.{name} is {str(value)[:60]!r}, but it must be a whole number from {least} to {MOST_BITS}."
                )
        if self.variant not in VARIANTS:
            raise InvalidInput(f"dataset_params.variant is {str(self.variant)[:60]!r}, but it must be {' or '.join(VARIANTS)}.")
        if not isinstance(self.fresh, bool):
            raise InvalidInput(f"dataset_params.fresh is {str(self.fresh)[:60]!r}, but it must be true or false.")
        if self.length == 0:
            object.__setattr__(self, "length", self.delay + STEPS_AFTER_DELAY)
        self._check_sizes()

    def _check_sizes(self) -> None:
        if self.delay >= self.length:
            raise InvalidInput(
                f"dataset_params.delay={self.delay} leaves nothing to recall in sequences of {self.length} steps: use a delay of "
                f"at most {self.length - 1}, or a length above the delay (delay + {STEPS_AFTER_DELAY} where it is left out)."
            )
        if self.length > MOST_STEPS:
            raise InvalidInput(f"Sequences of {self.length} steps are too long: use a length of at most {MOST_STEPS}.")
        if self.length * self.sequences > MOST_BITS:
            others = "" if self.fresh else "; with dataset_params.fresh=true they are others each epoch"
            raise InvalidInput(
                f"{self.sequences} sequences of {self.length} bits do not fit in memory: use at most "
                f"{MOST_BITS // self.length} sequences{others}."
            )

    @property
    def units(self) -> int:
        """How wide the hidden layer should be: near the smallest that can hold `delay` bits (Fairbank et al. 2022)."""
        return self.delay + (3 if self.variant == "recall" else 5)


def generated(dataset: str, params: Mapping[str, Any]) -> BitSequences | None:
    """The parameters of a generated dataset, None for one in the store; raise InvalidInput for wrong ones.

    `dataset` may be `name@version`. What is null has its default.
    """
    name = dataset.partition("@")[0]
    given = {key: value for key, value in params.items() if value is not None}
    if name != BITS:
        if given:
            raise InvalidInput(f"The dataset {name[:60]!r} takes no dataset_params, but {_quoted(given)} is given: leave it out.")
        return None
    known = [field.name for field in fields(BitSequences)]
    if unknown := {key: value for key, value in given.items() if key not in known}:
        raise InvalidInput(f"The dataset 'bits' has no parameter {_quoted(unknown)}; it takes {', '.join(known)}.")
    if given.get("length") == 0 and not isinstance(given["length"], bool):
        raise InvalidInput(
            f"dataset_params.length is 0, but it must be a whole number of at least {LEAST_LENGTH}; leave it out for delay + 50."
        )
    return BitSequences(**given)


def is_bits_task(task: str) -> bool:
    """Whether a spec's `task` is one of the dataset `bits`."""
    declared = task_named(task)
    return declared is not None and declared.dataset == BITS


def check_generated(dataset: str, params: Mapping[str, Any], task: str) -> None:
    """Refuse wrong `dataset_params`, and a task that the dataset is not for; raise InvalidInput."""
    made, for_bits = generated(dataset, params), is_bits_task(task)
    if made is not None and not for_bits:
        own = next(name for name, declared in tasks().items() if declared.dataset == BITS)
        raise InvalidInput(f"The dataset 'bits' is for the task {own!r}, not {task[:60]!r}: use -s task={own}.")
    if made is None and for_bits:
        raise InvalidInput(f"The task {task[:60]!r} is for the dataset 'bits', not {dataset[:60]!r}: use -s dataset=bits.")


def suggested_parameters(dataset: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a model by name that suit the dataset, for those that the spec's `model_params` do not give."""
    made = generated(dataset, params)
    # The chrono start of an LSTM: gates that hold for up to twice the delay.
    return {} if made is None else {"units": made.units, "longest": 2 * made.delay}


def _quoted(given: Mapping[str, Any]) -> str:
    return ", ".join(repr(str(key)[:60]) for key in given)
