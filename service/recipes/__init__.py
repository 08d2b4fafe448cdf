"""Recipes: named specs that ship with Delayline, one YAML file each, and how a spec comes from what a user typed."""

from pathlib import Path
from typing import Any

from service.errors import UnknownName
from service.recipes.documents import apply_override, merge, parse_override, read_file
from service.recipes.validation import nearest, validate
from service.specs import TrainSpec

__all__ = ["DEFAULT", "change", "describe", "names", "resolve"]

DEFAULT = "cnn-digits"
_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The names of all recipes, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def describe(name: str) -> dict[str, Any]:
    """A recipe's `name`, `description`, `reference` and `reached` figures, and `spec`; raise UnknownName."""
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
    if spec_argument.endswith((".yaml", ".yml")) or "/" in spec_argument or "\\" in spec_argument:
        path = folder / Path(spec_argument).expanduser()
        values, stem = _from_file(path), path.stem
    else:
        values, stem = describe(spec_argument)["spec"], spec_argument
    return validate(_changed(values, overrides, workers)), stem


def change(spec: TrainSpec, overrides: list[str], workers: str | None = None) -> TrainSpec:
    """The same spec with `KEY=VALUE` overrides; raise InvalidInput."""
    return validate(_changed(spec.document(), overrides, workers))


def _changed(values: dict[str, Any], overrides: list[str], workers: str | None) -> dict[str, Any]:
    for text in overrides:
        values = apply_override(values, *parse_override(text))
    return values if workers is None else {**values, "workers": workers}


def _from_file(path: Path) -> dict[str, Any]:
    values = read_file(path)
    base = values.pop("recipe", None)
    return values if base is None else merge(describe(str(base))["spec"], values)
