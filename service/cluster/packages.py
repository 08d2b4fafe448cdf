"""The user's own code that travels with a job: the modules that a spec names, and what they import, from the start folder."""

import ast
import hashlib
import importlib.machinery
import io
import os
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from service.errors import InvalidInput

LARGEST_PACKAGE = 10 * 1024**2
"""Bytes of all files together (assumed: a hundred times the source code of a large project)."""
_NOT_THEIRS = frozenset({"jobs", "service"})
"""Delayline's own packages, which the cluster has; a copy of them would come before those."""


@dataclass(frozen=True)
class Package:
    """Files by their names in the archive, with `/`; in order of names."""

    files: dict[str, Path]

    @property
    def size(self) -> int:
        """Bytes before compression."""
        return sum(path.stat().st_size for path in self.files.values())

    @cached_property
    def archive(self) -> bytes:
        """A zip file, the same for the same files."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, path in self.files.items():
                entry = zipfile.ZipInfo(name)
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())
        return buffer.getvalue()

    @property
    def name(self) -> str:
        """As Ray names packages, by their content."""
        return f"_ray_pkg_{hashlib.sha256(self.archive).hexdigest()[:32]}.zip"


def collect(modules: Iterable[str], folder: Path) -> Package | None:
    """The files of `modules` and of what they import, as far as both lie in `folder`; None if none does.

    A package comes whole, without hidden files and caches; links to folders are not followed. What an `import`
    statement does not name is not found. Raise InvalidInput for more than LARGEST_PACKAGE.
    """
    waiting, seen, files = [module.partition(".")[0] for module in modules], set(_NOT_THEIRS), dict[str, Path]()
    try:
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            found = dict(_files_of(name, folder))
            files |= found
            waiting += [imported for path in found.values() for imported in _imports(path)]
        package = Package(dict(sorted(files.items())))
        if package.size > LARGEST_PACKAGE:
            raise InvalidInput(_too_large(package))
    except OSError as error:
        raise InvalidInput(f"The code that travels with the job cannot be read: {error}; mend that.") from error
    return package if files else None


def _files_of(name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a module or package, if Python would take it from the folder."""
    spec = importlib.machinery.PathFinder.find_spec(name, [str(folder), *sys.path])
    if spec is None:
        return
    if spec.submodule_search_locations is not None:
        root = folder / name
        if str(root) in [str(Path(location)) for location in spec.submodule_search_locations]:
            yield from _walk(root, folder)
    elif spec.origin is not None and Path(spec.origin).parent == folder:
        yield Path(spec.origin).name, Path(spec.origin)


def _walk(root: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    for current, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not _is_left_out(name) and not (Path(current) / name / "pyvenv.cfg").exists()]
        for name in names:
            path = Path(current) / name
            if not _is_left_out(name) and path.is_file():
                yield path.relative_to(folder).as_posix(), path


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name == "__pycache__" or name.endswith((".pyc", ".pyo"))


def _imports(path: Path) -> Iterator[str]:
    """The top-level names that a source file imports, anywhere in it."""
    if path.suffix != ".py":
        return
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        # The worker that imports it will say so with the user's own lines.
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _too_large(package: Package) -> str:
    largest = sorted(package.files, key=lambda name: -package.files[name].stat().st_size)[:3]
    shown = ", ".join(f"{name} ({_mib(package.files[name].stat().st_size)})" for name in largest)
    return (
        f"The code that travels with the job has {_mib(package.size)} and may have {_mib(LARGEST_PACKAGE)}: take out of the "
        f"package what is no code, such as {shown}; data belongs into the store (`delayline data import`)."
    )


def _mib(size: int) -> str:
    return f"{size / 1024**2:.1f} MiB"
