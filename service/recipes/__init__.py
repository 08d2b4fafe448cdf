"""Recipes: named specs that ship with Delayline, one YAML file each, and how a spec comes from what a user typed."""

from pathlib import Path
from typing import Any

from service.errors import InvalidInput, UnknownName
from service.recipes.documents import apply_override, merge, parse_override, read_file
from service.recipes.validation import nearest, validate
from service.specs.train import TrainSpec

__all__ = ["DEFAULT", "change", "describe", "is_file", "names", "resolve", "run_recipe"]

DEFAULT = "cnn-digits"
_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The names of all recipes, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def describe(name: str) -> dict[str, Any]:
    """A recipe's `name`, `description`, `reference` and `reached` figures, and `spec` or `sweep`; raise UnknownName."""
    if name not in names():
        raise UnknownName(
            f"There is no recipe {name[:80]!r}{nearest(name, names())}; the recipes are {', '.join(names())}, "
            f"and a file's name ends in .yaml or has a slash."
        )
    return {"name": name, **read_file(_FOLDER / f"{name}.yaml")}


def resolve(spec_argument: str, overrides: list[str], workers: str | None, folder: Path) -> tuple[TrainSpec, str]:
    """Make the spec of a recipe's name or a YAML file in `folder`, changed by `KEY=VALUE` overrides and by `workers`.

    Return it with the stem for a run's id. Raise InvalidInput or UnknownName in one sentence.
    """
    if is_file(spec_argument):
        path = folder / Path(spec_argument).expanduser()
        values, stem = _from_file(path), path.stem
    else:
        values, stem = run_recipe(spec_argument), spec_argument
    return validate(_changed(values, overrides, workers)), stem


def is_file(argument: str) -> bool:
    """Whether it names a file and not a recipe."""
    return argument.endswith((".yaml", ".yml")) or "/" in argument or "\\" in argument


def run_recipe(name: str) -> dict[str, Any]:
    """The spec of a recipe for one run; raise UnknownName or InvalidInput."""
    described = describe(name)
    if "spec" not in described:
        raise InvalidInput(f"{name!r} is a sweep: start it by `delayline sweep {name}`.")
    found: dict[str, Any] = described["spec"]
    return found


def change(spec: TrainSpec, overrides: list[str], workers: str | None = None) -> TrainSpec:
    """The same spec with `KEY=VALUE` overrides; raise InvalidInput."""
    return validate(_changed(spec.document(), overrides, workers))


def _changed(values: dict[str, Any], overrides: list[str], workers: str | None) -> dict[str, Any]:
    for text in overrides:
        values = apply_override(values, *parse_override(text))
    return values if workers is None else {**values, "workers": workers}


def _from_file(path: Path) -> dict[str, Any]:
    values = read_file(path)
    if "space" in values and "base" in values:
        raise InvalidInput(f"The file {path} is a sweep: start it by `delayline sweep {path}`.")
    base = values.pop("recipe", None)
    return values if base is None else merge(run_recipe(str(base)), values)
