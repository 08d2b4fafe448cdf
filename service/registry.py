"""What Delayline's models and tasks declare of themselves, so that a plan knows them without importing TensorFlow.

Each file of `jobs/models` and `jobs/tasks` begins with constants, written as literals; these are read here, and nothing else of the
file. A test compares them with what the file's functions take and do.
"""

import ast
import functools
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar


@dataclass(frozen=True)
class Model:
    """What a model's file declares, as `PARAMETERS = {…}`, `STARTS = (…)` and so on."""

    parameters: Mapping[str, Any]
    """What its `build` takes by name, with the defaults."""
    starts: tuple[str, ...] = ()
    """The values of the parameter `start`: how a recurrent model's weights begin."""
    every_step: bool = False
    """Whether it can answer at every step of a sequence."""
    solvable: bool = False
    """Whether target space can solve its layers."""
    vectorized: tuple[str, ...] = ()
    """The parameters that say how wide its layers are, where several members can train as one computation; see service.sweeps.grouping."""


@dataclass(frozen=True)
class Task:
    """What a task's file declares."""

    metrics: tuple[str, ...]
    """The names of its metrics, beside its loss."""
    every_step: bool = False
    """Whether it asks for an answer at every step of a sequence."""
    dataset: str | None = None
    """The generated dataset that is for it alone, as it is for that; see service.specs.generated."""


_Declared = TypeVar("_Declared", Model, Task)


@functools.cache
def models() -> Mapping[str, Model]:
    """The models that ship with Delayline, by the names that a spec's `model` may have."""
    return dict(_declared("models", Model))


@functools.cache
def tasks() -> Mapping[str, Task]:
    """The tasks that ship with Delayline, by the names that a spec's `task` may have."""
    return dict(_declared("tasks", Task))


def model_named(name: str) -> Model | None:
    """A model of Delayline's, written with hyphens or underscores; None for any other."""
    return models().get(name.replace("_", "-"))


def task_named(name: str) -> Task | None:
    """A task of Delayline's, written with hyphens or underscores; None for any other."""
    return tasks().get(name.replace("_", "-"))


def _declared(kind: str, what: type[_Declared]) -> Iterator[tuple[str, _Declared]]:
    """The files of a folder of `jobs` that declare what such a file must: what its class has no default for."""
    names = {field.name.upper() for field in fields(what)}
    package = importlib.util.find_spec("jobs")
    folders = (package.submodule_search_locations if package else None) or []
    for path in sorted(path for folder in folders for path in Path(folder, kind).glob("[!_]*.py")):
        found = {name.lower(): value for name, value in _constants(path, names)}
        if fields(what)[0].name in found:
            yield path.stem.replace("_", "-"), what(**found)


def _constants(path: Path, names: set[str]) -> Iterator[tuple[str, Any]]:
    """The literals that a file gives to these names, before its first function or class."""
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            return
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in names:
            yield node.targets[0].id, ast.literal_eval(node.value)
