"""YAML that a user wrote, read within limits, and changes of single keys by `KEY=VALUE`."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from service.errors import InvalidInput

LARGEST_FILE = 256 * 1024
"""Bytes (assumed: fifty times the longest spec that anybody writes, and parsed within seconds)."""
MOST_VALUES = 100_000
"""Values in one document, aliases counted each time they are used (assumed, as above)."""
_REPLACES = {"steps": "epochs", "epochs": "steps", "every_steps": "every_epochs", "every_epochs": "every_steps"}
_MERGED = ("worker", "evaluate", "checkpoint")
_NAMED = ("optimizer", "space")
"""Keys whose other keys belong to their name."""


class _Loader(yaml.SafeLoader):
    """Safe YAML with the numbers of YAML 1.2: `1e-3` is a number; a date stays a text; a key appears once, and a
    whole number as a key is its text.

    The loader in C is no choice: it overflows the stack on deep nesting where this one raises RecursionError.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value[:40]!r} appears twice", problem_mark=key.start_mark)
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        # A class may have a number for a name: `class_weight: {0: 1, 1: 3}`. 0x10 and 010 are no such names.
        return {str(key) if type(key) is int and str(key) in seen else key: value for key, value in mapping.items()}


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z|[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z"),
    list("-+.0123456789"),
)


def read_file(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; raise InvalidInput."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InvalidInput(
            f"The spec file {path} cannot be read: {error.strerror or error}; give the path of a YAML file."
        ) from error
    if len(data) > LARGEST_FILE:
        raise InvalidInput(f"The spec file {path} is larger than {LARGEST_FILE // 1024} KiB; a spec has a few dozen lines.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"The spec file {path} is not UTF-8 text at byte {error.start}; save it as UTF-8 YAML.") from error
    values = parse(text, f"The spec file {path}")
    if not isinstance(values, dict):
        raise InvalidInput(f"The spec file {path} holds {_kind(values)}, not a mapping of keys such as `model: cnn`.")
    return values


def parse(text: str, what: str) -> Any:
    """Parse YAML into plain JSON values; raise InvalidInput that begins with `what`."""
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidInput(f"{what} is not valid YAML{place}: {error.problem or error.context}.") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise InvalidInput(f"{what} is not valid YAML: {' '.join(str(error).split())[:200]}.") from error
    except RecursionError as error:
        raise InvalidInput(f"{what} is nested too deeply; a spec has two or three levels.") from error
    _check_plain(value, what)
    return value


def _check_plain(value: Any, what: str) -> None:
    """Refuse what JSON cannot hold, and aliases that grow beyond any spec."""
    waiting = [("", value)]
    count = 0
    while waiting:
        path, item = waiting.pop()
        count += 1
        # An alias within itself never ends and an alias bomb grows by powers: the count stops both.
        if count > MOST_VALUES:
            raise InvalidInput(
                f"{what} holds more than {MOST_VALUES} values, aliases counted at each use; a spec has a few dozen."
            )
        if isinstance(item, dict):
            waiting += _members(item, path, what)
        elif isinstance(item, list):
            waiting += [(f"{path}.{index}" if path else str(index), member) for index, member in enumerate(item)]
        elif not _is_plain(item):
            place = f" at {path[:80]}" if path else ""
            raise InvalidInput(f"{what} holds {_kind(item)}{place}; use texts, finite numbers, true, false, lists and mappings.")


def _members(item: dict[Any, Any], path: str, what: str) -> Iterator[tuple[str, Any]]:
    for key, member in item.items():
        if not _is_text(key):
            raise InvalidInput(f"{what} has the key {_shortened(key)}, which is no text; put it in quotes.")
        yield (f"{path}.{key}" if path else key)[:200], member


def _is_plain(item: Any) -> bool:
    if isinstance(item, float):
        return math.isfinite(item)
    if isinstance(item, int):
        return item.bit_length() <= 64
    return item is None or _is_text(item)


def _is_text(item: Any) -> bool:
    """Whether it is a text that UTF-8 can hold: a lone surrogate is none."""
    return isinstance(item, str) and not any("\ud800" <= character <= "\udfff" for character in item)


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list):
        return "a list"
    return f"the {type(value).__name__} {_shortened(value)}"


def _shortened(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 64:
        return f"of {value.bit_length()} bits"
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"


def parse_override(text: str) -> tuple[list[str], Any]:
    """Split `KEY=VALUE` into the parts of the dotted key and the value, which is YAML; raise InvalidInput."""
    key, separator, value = text.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise InvalidInput(
            f"The override {text[:60]!r} is not KEY=VALUE; write for example -s epochs=3 or -s model_params.dropout=0."
        )
    return parts, parse(value, f"The value of -s {key[:60]}")


def apply_override(values: dict[str, Any], parts: list[str], value: Any) -> dict[str, Any]:
    """A copy of `values` with one dotted key replaced; of `steps` and `epochs` the newer one stays."""
    key, *rest = parts
    if rest:
        inner = _as_mapping(key, values.get(key))
        if not isinstance(inner, dict):
            raise InvalidInput(f"-s {'.'.join(parts)[:80]} goes into {key!r}, which holds {_kind(inner)}; give {key} as a whole.")
        value = apply_override(inner, rest, value)
    rival = _REPLACES.get(key)
    kept = values if value is None or rival is None else {name: old for name, old in values.items() if name != rival}
    return {**kept, key: value}


def _as_mapping(key: str, value: Any) -> Any:
    if value is None:
        return {}
    return {"name": value} if key in _NAMED and isinstance(value, str) else value


def merge(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `values`, which keep both of two that exclude each other for the validation to see.

    An optimizer or a space without a name changes that of `base`.
    """
    rivals = {_REPLACES.get(key) for key, value in values.items() if value is not None}
    merged = {key: value for key, value in base.items() if key not in rivals}
    for key, value in values.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and (key in _MERGED or (key in _NAMED and "name" not in value)):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged
