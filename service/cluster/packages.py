"""The user's own code that travels with a job: the modules that a spec names and what they import, and the data that it asks for."""

import hashlib
import importlib.machinery
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

from service.errors import InvalidInput
from service.user_folder import own_names

LARGEST_PACKAGE = 10 * 1024**2
"""Bytes of all files together (assumed: a hundred times the source code of a large project)."""
SECRETS = (
    "credentials*", "*credentials.json", "secret*", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "id_rsa*",
    "id_ecdsa*", "id_ed25519*", "*service*account*.json", "kubeconfig*", "auth_token*", "*.env",
)  # fmt: skip
"""Names that files with keys and passwords have, in lower case (assumed)."""


@dataclass(frozen=True)
class Package:
    """Files by their names in the archive, with `/`; in order of names."""

    files: dict[str, Path]

    @cached_property
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

    @cached_property
    def sha256(self) -> str:
        """Of the archive."""
        return hashlib.sha256(self.archive).hexdigest()


def collect(modules: Iterable[str], folder: Path, data: Iterable[str] = ()) -> Package | None:
    """The Python files of `modules` and of what they import, as far as both lie in `folder`, and `data`; None if there are none.

    A package comes with all its Python files but hidden ones; other files where a pattern of `data`, relative to the folder, names
    them. What an `import` statement does not name is not found. Raise InvalidInput for a link that leaves the folder, a pattern that
    names nothing or what has the name of a secret, and for more than LARGEST_PACKAGE.
    """
    try:
        asked = {name: path for pattern in data for name, path in _data(pattern, folder)}
        files = {name: path for module in sorted(own_names(modules, folder)) for name, path in _files_of(module, folder, asked)}
        package = Package(dict(sorted((files | asked).items())))
        if package.size > LARGEST_PACKAGE:
            raise InvalidInput(_too_large(package))
    except OSError as error:
        raise InvalidInput(f"The code that travels with the job cannot be read: {error}; mend that.") from error
    return package if package.files else None


def _files_of(name: str, folder: Path, asked: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    """The files of a module or package of the folder's own."""
    spec = importlib.machinery.PathFinder.find_spec(name, [str(folder)])
    if spec is None:
        return
    if spec.submodule_search_locations is not None:
        root = folder / name
        if str(root) in [str(Path(location)) for location in spec.submodule_search_locations]:
            _check_link(root, folder)
            yield from _walk(root, folder, ())
    elif spec.origin is not None and Path(spec.origin).parent == folder:
        path = Path(spec.origin)
        if path.suffix != ".py" and path.name not in asked:
            raise InvalidInput(f"The module {path.name} is no Python source: add it to package_data if the cluster can load it.")
        _check_link(path, folder)
        yield path.name, path


def _walk(current: Path, folder: Path, above: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    """The Python files below a folder; links that stay in the start folder are followed, but not round and round."""
    real = current.resolve()
    if real in above:
        return
    for path in sorted(current.iterdir()):
        if _is_left_out(path.name):
            continue
        _check_link(path, folder)
        if path.is_dir():
            if not (path / "pyvenv.cfg").exists():
                yield from _walk(path, folder, (*above, real))
        elif path.suffix == ".py" and path.is_file():
            yield path.relative_to(folder).as_posix(), path


def _data(pattern: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The files that a pattern of `package_data` names; hidden ones only where it spells them, which is refused."""
    spelled = {part for part in pattern.split("/") if part.startswith(".")}
    found = False
    try:
        paths = sorted(folder.glob(pattern))
    except (ValueError, NotImplementedError) as error:
        raise InvalidInput(
            f"package_data has {pattern[:100]!r}, which is no pattern ({error}): write '**' as a whole part alone."
        ) from error
    for path in paths:
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") and part not in spelled for part in parts) or "__pycache__" in parts:
            continue
        _check_link(path, folder)
        if path.is_file():
            found = True
            _check_secret(path.relative_to(folder), pattern)
            yield path.relative_to(folder).as_posix(), path
    if not found:
        raise InvalidInput(
            f"package_data has {pattern[:100]!r}, which names no file in {folder}: write a file or a pattern relative to it, such as "
            "'my_package/words.txt' or 'my_package/**/*.json'."
        )


def _check_link(path: Path, folder: Path) -> None:
    """Raise InvalidInput where a file or folder is not below the start folder, or a link to what has the name of a secret."""
    target, root = path.resolve(), folder.resolve()
    name = path.relative_to(folder).as_posix()
    if not target.is_relative_to(root):
        raise InvalidInput(
            f"{name} is a link to {target}, outside of {folder}, and would send what is there to the cluster: put a copy in its place, or "
            "take it out of the package."
        )
    if path.is_symlink() and target != root:
        _check_secret(target.relative_to(root), name)


def _check_secret(path: Path, asked: str) -> None:
    """Raise InvalidInput for a file with the name of a secret, which no pattern sends by accident."""
    if any(part.startswith(".") for part in path.parts) or any(fnmatch(path.name.lower(), secret) for secret in SECRETS):
        raise InvalidInput(
            f"{path.as_posix()} has the name of a secret, and {asked[:100]!r} would send it to the cluster: name other files in "
            "package_data; credentials belong into the cluster's own environment."
        )


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name == "__pycache__" or name.endswith((".pyc", ".pyo"))


def _too_large(package: Package) -> str:
    largest = sorted(package.files, key=lambda name: -package.files[name].stat().st_size)[:3]
    shown = ", ".join(f"{name} ({_mib(package.files[name].stat().st_size)})" for name in largest)
    return (
        f"The code that travels with the job has {_mib(package.size)} and may have {_mib(LARGEST_PACKAGE)}: take out of the "
        f"package what is not needed there, such as {shown}; data belongs into the store (`delayline data import`)."
    )


def _mib(size: int) -> str:
    return f"{size / 1024**2:.1f} MiB"
