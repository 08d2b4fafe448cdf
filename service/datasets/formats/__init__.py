"""File formats by name, one file each: `formats/idx.py` has `read(source, progress, choices) -> RawDataset`.

A format's `takes` lists which of the user's choices it has.

A new format is one new file.
"""

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

from service.datasets.choices import Choices
from service.datasets.raw import RawDataset
from service.errors import InvalidInput

Read = Callable[[Path, Callable[[int], None], Choices], RawDataset]


def format_names() -> list[str]:
    """The names that `--format` takes."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def reader(name: str) -> Read:
    """The function that reads a format; raise InvalidInput for an unknown one."""
    if name not in format_names():
        raise InvalidInput(f"There is no format {name[:60]!r}: use {', '.join(format_names())}.")
    read: Read = importlib.import_module(f"service.datasets.formats.{name}").read
    return read


def taken_choices(name: str) -> tuple[str, ...]:
    """The fields of `Choices` that mean something to a format; `allow_nan` does to all."""
    taken: tuple[str, ...] = getattr(importlib.import_module(f"service.datasets.formats.{name}"), "takes", ())
    return (*taken, "allow_nan")
