"""Where the pictures of a folder lie: splits, classes, what is passed over without a word, and what is left out by name."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from service.datasets.pictures import READ, SUFFIXES
from service.errors import BadData, InvalidInput

SPLITS = {"train": ("train", "training"), "test": ("test", "testing"), "validation": ("validation", "val", "valid")}
"""The folders of a split by the split's name, in upper or lower case."""
LITTER = frozenset(
    {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "$recycle.bin", "system volume information"}
)
"""What systems write beside people's files; hidden files begin with a dot."""
NAMED = 5


@dataclass
class PictureFolders:
    """The pictures of each split with their classes' numbers, in order, and what was left out, a sentence each."""

    classes: tuple[str, ...]
    files: dict[str, list[tuple[Path, int]]]
    notes: list[str]


@dataclass
class _Left:
    """Paths that are not used, by the sentence that says so."""

    source: Path
    paths: dict[str, list[str]] = field(default_factory=dict)

    def add(self, why: str, path: Path) -> None:
        self.paths.setdefault(why, []).append(shown(path, self.source))

    def notes(self) -> list[str]:
        return [
            f"{len(paths)} {(one if len(paths) == 1 else more)}: {some(paths)}."
            for (one, more), key in _SENTENCES
            for paths in [self.paths.get(key, [])]
            if paths
        ]


_SENTENCES = (
    (("file is no picture by its name, left out", "files are no pictures by their names, left out"), "kind"),
    (("picture lies in no folder of a class, left out", "pictures lie in no folder of a class, left out"), "loose"),
    (("folder beside the splits is left out", "folders beside the splits are left out"), "beside"),
    (("folder within a class's is taken as part of the class", "folders within a class's are taken as part of the class"), "inner"),
)  # fmt: skip


def find_pictures(source: Path) -> PictureFolders:
    """Find `train/CLASS/…`, `test/CLASS/…` and perhaps `validation/CLASS/…`; the classes are the names of the folders of train, sorted.

    Raise InvalidInput where a split is missing, BadData for classes that are empty or that train has not.
    """
    folders = _splits(source)
    left = _Left(source)
    used = set(folders.values())
    for path in _entries(source):
        if path not in used:
            left.add("beside" if path.is_dir() else "loose" if _is_picture(path) else "kind", path)
    classes = tuple(path.name for path in _entries(folders["train"]) if path.is_dir())
    if not classes:
        raise BadData(
            f"{folders['train']} has no folders of classes: put the pictures of each class into a folder of its name, "
            "train/CLASS/*.png."
        )
    files = {split: _files(folder, split, classes, left) for split, folder in folders.items()}
    return PictureFolders(classes, files, [*left.notes(), *_missing(files, classes)])


def _splits(source: Path) -> dict[str, Path]:
    there = [path for path in _entries(source) if path.is_dir()] if source.is_dir() else []
    found: dict[str, Path] = {}
    for split, names in SPLITS.items():
        folders = [path for path in there if path.name.lower() in names]
        if len(folders) > 1:
            raise InvalidInput(
                f"{source} has {' and '.join(path.name for path in folders)}, which are all the {split} split: keep one of them."
            )
        if folders:
            found[split] = folders[0]
    if not {"train", "test"} <= set(found):
        has = f", but has {some([path.name for path in there])}" if there else ""
        raise InvalidInput(
            f"{source} needs the folders train and test, each with one folder for each class: train/CLASS/*.png{has}."
        )
    return found


def _files(folder: Path, split: str, classes: tuple[str, ...], left: _Left) -> list[tuple[Path, int]]:
    numbers = {name: number for number, name in enumerate(classes)}
    found = []
    for path in _entries(folder):
        if not path.is_dir():
            left.add("loose" if _is_picture(path) else "kind", path)
            continue
        inside = list(_walk(path, (os.path.realpath(path),), left))
        pictures = [each for each in inside if _is_picture(each)]
        for each in inside:
            if not _is_picture(each):
                left.add("kind", each)
        if pictures and path.name not in numbers:
            raise BadData(
                f"{shown(path, left.source)} is a class that train does not have: it has {', '.join(classes[:10])}: "
                "give train pictures of it, or remove the folder."
            )
        if not pictures and split == "train":
            raise BadData(
                f"{shown(path, left.source)} has no {READ} files{_instead(inside)}: give at least one picture of the class or "
                "remove its folder."
            )
        found += [(each, numbers[path.name]) for each in pictures]
    if not found:
        loose = sum(_is_picture(path) for path in _entries(folder))
        where = f", only {loose} in no folder of a class: move them to {folder.name}/CLASS/" if loose else ""
        raise BadData(f"{folder} has no {READ} files in folders of classes: the {split} split is empty{where}.")
    return found


def _walk(folder: Path, above: tuple[str, ...], left: _Left) -> Iterator[Path]:
    """The files of a folder and of those within it, in order; `above` are the true paths of the folders around, where links may lead back to."""
    for path in _entries(folder):
        if not path.is_dir():
            yield path
        elif (real := os.path.realpath(path)) not in above:
            left.add("inner", path)
            yield from _walk(path, (*above, real), left)


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, without hidden files and what systems write there."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name.lower() not in LITTER)


def _is_picture(path: Path) -> bool:
    if path.suffix.lower() not in SUFFIXES:
        return False
    if not path.is_file():
        # To open a pipe waits for its writer.
        raise BadData(f"{path} is no file, or a link to none: replace or remove it.")
    return True


def _instead(paths: list[Path]) -> str:
    return f", but {some([path.name for path in paths])}" if paths else ""


def _missing(files: dict[str, list[tuple[Path, int]]], classes: tuple[str, ...]) -> list[str]:
    """Of each split but train, the classes that it has no pictures of."""
    notes = []
    for split, found in files.items():
        lacking = [name for number, name in enumerate(classes) if number not in {label for _, label in found}]
        if lacking:
            notes.append(f"The {split} split has no pictures of {some(lacking)}.")
    return notes


def some(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def shown(path: Path, source: Path) -> str:
    """A path as messages call it: from the folder that is imported on."""
    return path.relative_to(source).as_posix()
