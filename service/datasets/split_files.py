"""Where the files of each split lie: in a folder, in its `data/` as Hugging Face has it, or in folders of the splits' names."""

from pathlib import Path

from service.datasets.manifest import VALIDATION
from service.errors import InvalidInput

SPLITS = {"train": ("train",), "test": ("test",), VALIDATION: (VALIDATION, "valid", "val", "dev")}
"""What a split's files may be called."""


def find_splits(source: Path, endings: tuple[str, ...]) -> dict[str, list[Path]]:
    """The files of `train`, `test` and, where there are some, `validation`, sorted; `endings` as `.parquet`, the usual one first.

    Raise InvalidInput where train or test is missing, naming what there is.
    """
    ending = endings[0]
    if source.is_file():
        raise InvalidInput(
            f"{source} is one file, but train and test are needed: divide its rows into train{ending} and test{ending}, and give their folder."
        )
    for folder in (source, source / "data"):
        if found := _in(folder, endings):
            return _checked(source, found, ending)
    inner = [folder for folder in sorted(source.iterdir()) if folder.is_dir() and _in(folder, endings)]
    if len(inner) > 1:
        raise InvalidInput(
            f"{source} holds several datasets, {', '.join(folder.name for folder in inner[:10])}: give one of them, --from {inner[0]}."
        )
    return _checked(source, _in(inner[0], endings) if inner else {}, ending)


def _checked(source: Path, found: dict[str, list[Path]], ending: str) -> dict[str, list[Path]]:
    for split in ("train", "test"):
        if split not in found:
            there = f" (there is {' and '.join(found)})" if found else _known_otherwise(source)
            raise InvalidInput(
                f"{source} has no {split}{ending}, {split}-*{ending} or {split}/*{ending}{there}: both train and test are needed."
            )
    return found


def _known_otherwise(source: Path) -> str:
    """A word on what is out of scope, where that is what lies there."""
    if any(source.glob("**/*.tfrecord*")):
        return " but TFRecord files, which Delayline does not read (tfds.as_numpy(tfds.load(…)) gives arrays for an .npz file)"
    return ""


def _in(folder: Path, endings: tuple[str, ...]) -> dict[str, list[Path]]:
    found = {}
    for split, names in SPLITS.items():
        for name in names:
            if files := _files(folder, name, endings):
                found[split] = files
                break
    return found


def _files(folder: Path, name: str, endings: tuple[str, ...]) -> list[Path]:
    for place in (folder / name, *(folder / f"{name}{ending}" for ending in endings)):
        # Spark writes a folder called train.parquet.
        if place.is_dir() and (files := sorted({path for ending in endings for path in place.glob(f"*{ending}") if _seen(path)})):
            return files
    patterns = [f"{name}{middle}{ending}" for ending in endings for middle in ("", "-*")]
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if _seen(path)})


def _seen(path: Path) -> bool:
    """No folder, and none of the files that systems and Spark add."""
    return path.is_file() and not path.name.startswith((".", "_"))
