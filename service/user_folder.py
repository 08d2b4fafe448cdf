"""Where a user's own modules are found: in the folder where the user starts the command, and never in one that a document names, unless asked to.

That folder comes last on the path of every process: what else lies there, such as a `random.py`, is not imported for others.
"""

import ast
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from service.errors import InvalidInput
from service.installed import distribution

_OURS = frozenset({"jobs", "service"})
"""Delayline's own packages."""
LARGEST_SOURCE = 10 * 1024**2
"""Bytes of a file that is looked through for imports: those of a whole package (assumed)."""
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


def python(module: str, executable: str = sys.executable) -> list[str]:
    """The command of a process of Delayline's own, which never imports modules from its folder."""
    return [executable, "-P", "-m", module]


def put_last() -> None:
    """Look for modules in this process's folder last of all, as `python -m` without -P does first."""
    here = str(Path.cwd())
    first = [path for path in sys.path if path not in ("", here)]
    if len(first) < len(sys.path):
        sys.path[:] = [*first, here]


def own_names(modules: Iterable[str], folder: Path) -> dict[str, bool]:
    """The top-level names of `modules`, and of what they import, that are the folder's own; with whether another has that name too.

    Python's own modules and what is imported from elsewhere are none. Raise InvalidInput where a name is also that of a module
    that Delayline needs, or of one of Python's own that is named here: only one of both can be imported.
    """
    named = {module.partition(".")[0] for module in modules}
    waiting, found = sorted(named), dict[str, bool]()
    seen = set(waiting)
    while waiting:
        name = waiting.pop()
        here = importlib.machinery.PathFinder.find_spec(name, [str(folder)])
        if here is None or (name in sys.stdlib_module_names and name not in named):
            continue
        there = _found_elsewhere(name, here, folder)
        if there and here.loader is None:
            # A folder that is no package is taken where there is nothing else of its name.
            continue
        if there and _is_needed(name):
            kind = "Python itself" if name in sys.stdlib_module_names else "Delayline or what it needs"
            raise InvalidInput(
                f"The module {name!r} in {str(folder)[:200]!r} has the name of one that {kind} needs: rename yours, and where it is imported."
            )
        found[name] = there
        following = {each for path in _sources(here) for each in imports(path)} - seen
        seen |= following
        waiting += sorted(following)
    return found


def use_folder(module: str, folder: str) -> None:
    """Let the module, and what it imports, be found from the folder, after all that is installed, except for names that are the user's."""
    if folder not in sys.path:
        sys.path.append(folder)
    names = frozenset(name for name, shared in own_names([module], Path(folder)).items() if shared)
    if names and not any(isinstance(each, _OwnModules) and each.serves(folder, names) for each in sys.meta_path):
        sys.meta_path.insert(0, _OwnModules(folder, names))


class _OwnModules:
    """Finds a user's modules of names that an installed package, which is not needed here, has too."""

    def __init__(self, folder: str, names: frozenset[str]) -> None:
        self._folder, self._names = folder, names

    def serves(self, folder: str, names: frozenset[str]) -> bool:
        """Whether it finds these already."""
        return folder == self._folder and names <= self._names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """As importlib asks for it."""
        return importlib.machinery.PathFinder.find_spec(name, [self._folder]) if name in self._names and path is None else None


def imports(path: Path) -> Iterator[str]:
    """The top-level names that a source file imports, anywhere in it."""
    try:
        # A larger one does not travel, and would take long to parse.
        tree = ast.parse(path.read_bytes() if path.stat().st_size <= LARGEST_SOURCE else b"")
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
        # The worker that imports it will say so with the user's own lines.
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _sources(spec: importlib.machinery.ModuleSpec) -> Iterator[Path]:
    if spec.submodule_search_locations is None:
        yield from (Path(origin) for origin in [spec.origin] if origin and origin.endswith(".py"))
        return
    for location in spec.submodule_search_locations:
        for current, folders, files in os.walk(location):
            # Also no environment with packages that were installed into it.
            folders[:] = [each for each in folders if each[0] != "." and not Path(current, each, "pyvenv.cfg").exists()]
            yield from (Path(current, file) for file in files if file.endswith(".py"))


def _found_elsewhere(name: str, here: importlib.machinery.ModuleSpec, folder: Path) -> bool:
    """Whether there is another module of that name beside the folder's."""
    if name in sys.stdlib_module_names or name in _OURS:
        return True
    rest = [path for path in sys.path if path and Path(path) != folder]
    there = importlib.machinery.PathFinder.find_spec(name, rest)
    return there is not None and there.loader is not None and there.origin != here.origin


def _is_needed(name: str) -> bool:
    """Whether a module is Python's, Delayline's or of a package that it requires, directly or not."""
    if name in sys.stdlib_module_names or name in _OURS:
        return True
    holders = {_normal(each) for each in importlib.metadata.packages_distributions().get(name, ())}
    waiting, seen = ["delayline"], set[str]()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        try:
            found = distribution(one)
        except importlib.metadata.PackageNotFoundError:
            continue
        seen.add(_normal(found.name))
        waiting += [_normal(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) for line in found.requires or []]
    return bool(holders & seen)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def folder_of_modules(run_id: str, spec: Mapping[str, Any], stored: str | None, trusted: bool = False) -> str:
    """The folder to import a run's own modules from: the current one, or where `trusted` the `stored` one of its submission.

    Raise InvalidInput where a module that the run names is not there, or is one such as `os`.
    """
    here = Path.cwd()
    folder = Path(stored) if trusted and stored else here
    for module in dict.fromkeys(_modules(spec)):
        if _is_pythons_own(module):
            raise InvalidInput(
                f"The run {run_id!r} names a function of Python's own module {module[:80]!r}, which makes no models: do not trust it."
            )
        if module_exists(module, folder):
            continue
        if folder == here and stored is not None and Path(stored) != here:
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


def _is_pythons_own(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


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
