"""Where a user's own modules are found: in the folder that the user stands in, and never in one that a document names, unless asked to."""

import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from service.errors import InvalidInput

_OWN = Path(__file__).parents[1]
_REFERENCE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[A-Za-z_]\w*")


def module_exists(name: str, folder: Path) -> bool:
    """Whether a module is in the folder or installed; nothing is imported for it."""
    path: Any = [str(folder), *sys.path]
    for part in name.split("."):
        found = importlib.machinery.PathFinder.find_spec(part, path)
        if found is None:
            # An editable installation has a finder of its own; at the top level it imports nothing.
            return "." not in name and importlib.util.find_spec(name) is not None
        path = found.submodule_search_locations
    return True


def check_folder(folder: Path) -> None:
    """Raise InvalidInput where a package or module of the folder would be imported in the place of one of Delayline's own."""
    for name in ("jobs", "service"):
        found = importlib.machinery.PathFinder.find_spec(name, [str(folder)])
        # A folder without __init__.py comes behind every package.
        if found is not None and found.origin is not None and not Path(found.origin).samefile(_OWN / name / "__init__.py"):
            raise InvalidInput(
                f"{found.origin} has the name of a package of Delayline's own, which it would take the place of: rename it, or start the "
                "command in another folder."
            )


def folder_of_modules(run_id: str, submission: Mapping[str, Any], trusted: bool = False) -> str:
    """The folder to import a run's own modules from: the current one, or where `trusted` the one of its submission.

    Raise InvalidInput where a module that the run names is not there, or is one such as `os`.
    """
    stored, here = submission.get("folder"), Path.cwd()
    folder = Path(stored) if trusted and isinstance(stored, str) and stored else here
    for module in dict.fromkeys(_modules(submission.get("spec"))):
        if _is_pythons_own(module, folder):
            raise InvalidInput(
                f"The run {run_id!r} names a function of Python's own module {module[:80]!r}, which makes no models: do not trust it."
            )
        if module_exists(module, folder):
            continue
        if folder == here and isinstance(stored, str) and Path(stored) != here:
            remedy = (
                f"start the command in the folder that holds it, or add --trust-folder to import it from {stored[:200]!r}, "
                "where the run was submitted as the store says"
            )
        else:
            remedy = "start the command in the folder that holds it, or install it"
        where = "the current folder" if folder == here else "the run's folder"
        raise InvalidInput(
            f"The module {module[:80]!r} of the run {run_id!r} is not found in {where} {str(folder)[:200]!r}: {remedy}."
        )
    return str(folder)


def _is_pythons_own(module: str, folder: Path) -> bool:
    name = module.partition(".")[0]
    if name not in sys.stdlib_module_names:
        return False
    here, loaded = importlib.machinery.PathFinder.find_spec(name, [str(folder)]), sys.modules.get(name)
    return here is None or (loaded is not None and getattr(loaded, "__file__", None) != here.origin)


def _modules(value: Any) -> Iterator[str]:
    """The modules of all references `my_package.nets:build` anywhere in a spec's document."""
    if isinstance(value, str):
        match = _REFERENCE.fullmatch(value)
        if match:
            yield match[1]
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _modules(each)
    elif isinstance(value, list):
        for each in value:
            yield from _modules(each)
