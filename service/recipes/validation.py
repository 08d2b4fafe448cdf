"""From plain values to a spec, or one sentence that says what is wrong and how to mend it."""

import difflib
import itertools
import json
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from service.errors import InvalidInput
from service.specs.train import TrainSpec

Kind = TypeVar("Kind", bound=BaseModel)

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "string_too_long": "a text of at most {max_length} characters",
    "string_too_short": "a text that is not empty",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "tuple_type": "a list",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "one of {expected}",
}
"""Pydantic's error types in a user's words; all others keep pydantic's message."""


def validate(values: dict[str, Any]) -> TrainSpec:
    """Make the spec of a run; raise InvalidInput for the first problem."""
    return validate_as(TrainSpec, _with_names(values))


def validate_as(kind: type[Kind], values: dict[str, Any]) -> Kind:
    """Make a spec of that kind; raise InvalidInput for the first problem."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        # An unknown key explains a missing one: `modle` for `model`.
        problems = sorted(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
        more = len(problems) - 1
        others = f" ({more} more problem{'s' if more > 1 else ''} after this one.)" if more else ""
        raise InvalidInput(_sentence(problems[0], kind) + others) from error


def nearest(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a valid name is close, or nothing."""
    close = difflib.get_close_matches(name[:80].lower(), list(valid), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _with_names(values: dict[str, Any]) -> dict[str, Any]:
    """`optimizer: sgd` and `augment: [flip]` are short for `{name: sgd}` and `[{name: flip}]`."""
    changed = dict(values)
    if isinstance(changed.get("optimizer"), str):
        changed["optimizer"] = {"name": changed["optimizer"]}
    for key in ("callbacks", "augment"):
        if isinstance(changed.get(key), list):
            changed[key] = [{"name": item} if isinstance(item, str) else item for item in changed[key]]
    return changed


def _sentence(problem: ErrorDetails, spec: type[BaseModel]) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    kind = problem["type"]
    if kind == "extra_forbidden":
        valid = _keys_beside(problem["loc"], spec)
        return f"Unknown key {path[:80]!r}{nearest(str(problem['loc'][-1]), valid)}; the valid keys are {', '.join(valid)}."
    if kind == "missing":
        return f"The spec has no {path!r}; add it to the file or give it by -s {path}=VALUE."
    if kind == "value_error":
        message = str(problem["ctx"]["error"]).rstrip(".")
        subject = f"The spec's {path} is not valid" if path else "The spec is not valid"
        return f"{subject}: {message}."
    key = ".".join(itertools.takewhile(lambda part: isinstance(part, str), problem["loc"]))  # type: ignore[arg-type]
    expected = _EXPECTED.get(kind, problem["msg"]).format(**problem.get("ctx", {}))
    received = _received(problem["input"])
    return f"The spec's {path} is {received}, but must be {expected}; correct it in the file or by -s {key}=VALUE."


def _received(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=repr)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"


def _keys_beside(location: tuple[int | str, ...], spec: type[BaseModel]) -> list[str]:
    """The valid keys of the mapping that the last part of `location` is in."""
    model: type[BaseModel] = spec
    candidates: list[Any] = []
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        # A part that is no field is an item of the list or mapping before it.
        candidates = candidates if field is None else _within(field.annotation)
        found = [kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not found:
            break
        model = found[0]
    return list(model.model_fields)


def _within(annotation: Any) -> list[Any]:
    """A type and all in its brackets."""
    return [annotation, *(inner for each in typing.get_args(annotation) for inner in _within(each))]
