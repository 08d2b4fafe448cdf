"""What pip meets without uv: the bounds in the wheel, which the pins that uv goes by must meet."""

import ast
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DIRECT = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
EXTRA = [Requirement(text) for texts in PROJECT["project"]["optional-dependencies"].values() for text in texts]
PINS = [Requirement(text) for text in PROJECT["tool"]["uv"]["constraint-dependencies"]]


def pinned(name: str) -> list[Version]:
    """The versions of a package in the pins: more than one where they differ between Pythons."""
    pins = [pin for pin in PINS if canonicalize_name(pin.name) == canonicalize_name(name)]
    return [Version(next(iter(pin.specifier)).version) for pin in pins]


@pytest.mark.parametrize("requirement", [*DIRECT, *EXTRA], ids=str)
def test_a_dependency_has_a_lower_and_an_upper_bound_that_its_pins_meet(requirement: Requirement) -> None:
    operators = {specifier.operator for specifier in requirement.specifier}
    assert operators in ({"=="}, {">=", "<"}), "give it both bounds, or an exact version and the reason"
    versions = pinned(requirement.name)
    assert versions, "it is not among the pins: run `uv run just pins`"
    for version in versions:
        assert requirement.specifier.contains(version, prereleases=True)
    for lower in (Version(s.version) for s in requirement.specifier if s.operator == ">="):
        assert lower <= min(versions), "what is older than the pins was not tested"


def test_every_package_that_is_imported_is_a_dependency() -> None:
    """A package that comes with another one goes when that one no longer needs it."""
    declared = {canonicalize_name(requirement.name) for requirement in [*DIRECT, *EXTRA]}
    # Pydantic wants exactly one version of its core.
    declared.add("pydantic-core")
    providers = metadata.packages_distributions()
    for path in sorted(path for folder in ("service", "jobs") for path in (ROOT / folder).rglob("*.py")):
        for name in imported(path) - set(sys.stdlib_module_names) - {"service", "jobs"}:
            assert {canonicalize_name(provider) for provider in providers[name]} & declared, f"{path} imports {name}"


def imported(path: Path) -> set[str]:
    """The top-level packages that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_what_is_no_python_is_in_the_wheel_too() -> None:
    """Every file of the two packages that git holds and that is no module is among the package data."""
    data = PROJECT["tool"]["setuptools"]["package-data"]
    for package in ("service", "jobs"):
        listed = {path for pattern in data[package] for path in (ROOT / package).glob(pattern)}
        others = {p for p in (ROOT / package).rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc", ".md")}
        assert others <= listed, f"not in the wheel: {sorted(others - listed)}"
