"""File formats by name, one file each: `formats/idx.py` has `read(source, progress) -> RawDataset`.

A new format is one new file.
"""

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

from service.datasets.raw import RawDataset
from service.errors import InvalidInput

Read = Callable[[Path, Callable[[int], None]], RawDataset]


def format_names() -> list[str]:
    """The names that `--format` takes."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def reader(name: str) -> Read:
    """The function that reads a format; raise InvalidInput for an unknown one."""
    if name not in format_names():
        raise InvalidInput(f"There is no format {name[:60]!r}: use {', '.join(format_names())}.")
    read: Read = importlib.import_module(f"service.datasets.formats.{name}").read
    return read
