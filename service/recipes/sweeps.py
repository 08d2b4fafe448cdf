"""How a sweep's spec comes from what a user typed: a recipe, a file, and changes of the sweep, its space and its base."""

from pathlib import Path
from typing import Any

from service import recipes
from service.errors import InvalidInput
from service.recipes.documents import apply_override, merge, parse_override, read_file
from service.recipes.validation import validate, validate_as
from service.specs.sweep import SweepSpec

DEFAULT = "sweep-digits"


def resolve(argument: str, overrides: list[str], workers: str | None, folder: Path) -> tuple[SweepSpec, str]:
    """Make the spec of a sweep recipe's name or a YAML file in `folder`, changed by `KEY=VALUE` overrides and `workers`.

    Return it with the stem for the sweep's id. Raise InvalidInput or UnknownName in one sentence.
    """
    if recipes.is_file(argument):
        path = folder / Path(argument).expanduser()
        values, stem, folder = read_file(path), path.stem, path.parent
        named = values.pop("recipe", None)
        values = values if named is None else {**_sweep_of(str(named)), **values}
        if "model" in values and "base" not in values:
            raise InvalidInput(
                f"The file {path} is the spec of one run: train it by `delayline train`, or name it as a sweep's base."
            )
    else:
        values, stem = _sweep_of(argument), argument
    bases = _bases(values.get("base"), folder)
    values = {**values, "base": bases} if bases else {key: value for key, value in values.items() if key != "base"}
    for text in overrides:
        values = _change(values, *parse_override(text))
    return _validated(values if workers is None else {**values, "workers": workers}), stem


def change(sweep: SweepSpec, overrides: list[str], workers: str | None = None) -> SweepSpec:
    """The same sweep with `KEY=VALUE` overrides; raise InvalidInput."""
    values = sweep.document()
    for text in overrides:
        values = _change(values, *parse_override(text))
    return _validated(values if workers is None else {**values, "workers": workers})


def _sweep_of(name: str) -> dict[str, Any]:
    described = recipes.describe(name)
    if "sweep" not in described:
        raise InvalidInput(f"{name!r} is a recipe of one run: train it by `delayline train {name}`, or sweep {DEFAULT}.")
    found: dict[str, Any] = described["sweep"]
    return found


def _bases(base: Any, folder: Path) -> list[dict[str, Any]]:
    """Each base with its name; the values of recipes and files in the place of theirs."""
    listed = base if isinstance(base, list) else [] if base is None else [base]
    found = []
    for each in listed:
        if isinstance(each, str):
            spec, stem = recipes.resolve(each, [], None, folder)
            found.append({"name": stem, "values": spec.document()})
        elif isinstance(each, dict):
            values = dict(each)
            named = values.pop("recipe", None)
            values = values if named is None else merge(recipes.run_recipe(str(named)), values)
            name = str(values.pop("name", None) or named or values.get("model") or "base")
            found.append({"name": name[:200], "values": values})
        else:
            raise InvalidInput(
                f"The sweep's base is {str(each)[:60]!r}, but must be a recipe's name, a YAML file, or a spec in place."
            )
    return found


def _change(values: dict[str, Any], parts: list[str], value: Any) -> dict[str, Any]:
    if parts[0] == "base" and len(parts) > 1:
        bases = [{**base, "values": apply_override(base["values"], parts[1:], value)} for base in values.get("base", [])]
        return {**values, "base": bases}
    if parts[0] == "base":
        return {**values, "base": _bases(value, Path.cwd())}
    if parts[0] == "space" and len(parts) > 1:
        space = values.get("space") or {}
        if not isinstance(space, dict):
            raise InvalidInput(
                f"The sweep's space is {str(space)[:60]!r}, but must be a mapping of keys such as batch: {{grid: [32, 64]}}."
            )
        space = {key: old for key, old in space.items() if key != ".".join(parts[1:])}
        return {**values, "space": space if value is None else {**space, ".".join(parts[1:]): value}}
    return apply_override(values, parts, value)


def _validated(values: dict[str, Any]) -> SweepSpec:
    """Every base is a whole spec by itself, so that its keys' defaults are known to expressions."""
    bases = [{**base, "values": validate(base["values"]).document()} for base in values.get("base", [])]
    return validate_as(SweepSpec, {**values, "base": bases} if bases else values)
