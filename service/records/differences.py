"""In what two specs differ."""

import json
from collections.abc import Iterator
from typing import Any

from service.records.run_record import Document


def differing(stored: Document, wanted: Document) -> list[tuple[str, str]]:
    """The keys that differ between two specs, each with a phrase that names both values."""
    return [
        (key, f"{path} is {_short(old)} there, {_short(new)} here")
        for key in sorted({*stored, *wanted})
        for path, old, new in _differences(key, stored.get(key), wanted.get(key))
    ]


def _differences(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from _differences(f"{path}.{name}", old.get(name), new.get(name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}.{index}", before, after)
    elif old != new:
        yield path, old, new


def _short(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"
