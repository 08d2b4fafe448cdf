"""Checks of the parameters that the models of this folder take."""

import math
from typing import Any

from service.errors import InvalidInput

LONGEST = 1_000_000


def whole_numbers(name: str, values: Any, count: int | None = None) -> list[int]:
    """A list of positive whole numbers, exactly `count` of them if given; raise InvalidInput."""
    fits = isinstance(values, (list, tuple)) and all(
        isinstance(v, int) and not isinstance(v, bool) and 1 <= v <= LONGEST for v in values
    )
    if not fits or (count is not None and len(values) != count):
        wanted = f"{count} positive whole numbers" if count is not None else "a list of positive whole numbers"
        raise InvalidInput(f"model_params.{name} is {str(values)[:60]}, but it must be {wanted}.")
    return list(values)


def whole_number(name: str, value: Any) -> int:
    """A positive whole number; raise InvalidInput."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LONGEST:
        raise InvalidInput(f"model_params.{name} is {str(value)[:60]}, but it must be a positive whole number.")
    return value


def share(name: str, value: Any) -> float:
    """A number from 0 to below 1; raise InvalidInput."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise InvalidInput(f"model_params.{name} is {str(value)[:60]}, but it must be a number from 0 to below 1.")
    return float(value)


def number(name: str, value: Any) -> float:
    """A finite number; raise InvalidInput."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InvalidInput(f"model_params.{name} is {str(value)[:60]}, but it must be a number.")
    return float(value)


def positive(name: str, value: Any) -> float:
    """A finite number above 0; raise InvalidInput."""
    if number(name, value) <= 0:
        raise InvalidInput(f"model_params.{name} is {str(value)[:60]}, but it must be above 0.")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """True or false; raise InvalidInput."""
    if not isinstance(value, bool):
        raise InvalidInput(f"model_params.{name} is {str(value)[:60]}, but it must be true or false.")
    return value


def choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """One of the choices; raise InvalidInput."""
    if value not in choices:
        raise InvalidInput(f"model_params.{name} is {str(value)[:60]!r}, but it must be {' or '.join(choices)}.")
    return str(value)


def image_shape(model: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(height, width, channels); raise InvalidInput for examples that are no images."""
    if len(shape) != 3:
        raise InvalidInput(
            f"The model {model!r} takes images of shape (height, width, channels), but the dataset's examples are {shape}: use dense."
        )
    return shape[0], shape[1], shape[2]
