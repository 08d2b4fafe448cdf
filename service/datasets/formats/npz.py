"""NumPy archives: `x_train`, `y_train`, `x_test`, `y_test`, and further features as `NAME_train` and `NAME_test`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.datasets.array_labels import read_labels
from service.datasets.choices import NONE, Choices
from service.datasets.manifest import VALIDATION
from service.datasets.raw import SAMPLE_WEIGHT, RawDataset, RawSplit
from service.datasets.unpacked import check_archive
from service.errors import BadData, InvalidInput

MOST_BYTES = 64 * 1024**3
ENDINGS = {"train": ("train",), "test": ("test",), VALIDATION: ("val", "valid", VALIDATION)}
"""How the names of a split's arrays may end, after `_`."""
INPUT, LABELS = "x", "y"
_INPUTS = ("x", "images", "image", "data", "inputs", "features")
_LABELS = ("y", "labels", "label", "targets")
"""What others call the arrays of examples and of labels; `x` and `y` come first."""
Arrays = dict[str, NDArray[Any]]


def read(source: Path, progress: Callable[[int], None], choices: Choices = NONE) -> RawDataset:
    """Read one .npz file, or the only one in a folder. Arrays of images gain a channel axis where they have none.

    Upper case is taken as lower case, `train_images` as `x_train`; `x_val` and `y_val` are the validation split.
    """
    path = _file(source)
    columns = read_arrays(path, MOST_BYTES)
    progress(path.stat().st_size)
    notes: list[str] = []
    splits, left = _by_split(path, columns, notes)
    for split in ("train", "test"):
        if split not in splits:
            raise BadData(
                f"{path.name}: there is no {split} split in it, give both: x_{split} and y_{split} are wanted (or {split}_images and "
                f"{split}_labels), but it has {_named(columns)}."
            )
    if left:
        notes.append(f"Left out, for no name of a split is in theirs: {', '.join(name[:60] for name in left[:10])}.")
    own = splits.get(VALIDATION, {})
    if own and (LABELS not in own or len(own) == 1):
        notes.append(f"Left out {', '.join(f'{name}_{VALIDATION}' for name in own)}: a validation split needs x_val and y_val.")
        del splits[VALIDATION]
    found = {split: _split(path, columns, splits[split], split) for split in ENDINGS if split in splits}
    labels = read_labels(path.name, {split: arrays for split, (_, arrays) in found.items()})
    notes += labels.notes
    return RawDataset(
        {split: RawSplit(features, labels.numbers[split], f"{path.name}, y_{split}") for split, (features, _) in found.items()},
        labels.names,
        notes=notes,
    )


def read_arrays(path: Path, most_bytes: int) -> Arrays:
    """All arrays of an .npz file by name, in this machine's byte order; raise BadData for a damaged one, and for one of more than
    `most_bytes` unpacked."""
    try:
        claimed = check_archive(path, path.name)
        if claimed > most_bytes:
            raise BadData(f"{path.name}: it claims {claimed} bytes unpacked, more than {most_bytes}.")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: _native(arrays[name]) for name in arrays.files}
    except BadData:
        raise
    except Exception as error:
        # NumPy reads the headers of arrays by Python's parser, which raises whatever it raises.
        remedy = " (arrays of Python objects are not read: give texts by .astype(str) and numbers by .astype(float))"
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise BadData(
            f"{path.name}: it is no intact .npz file: {reason}{remedy if 'Object arrays' in str(error) else ''}."
        ) from error


def _native(array: Any) -> NDArray[Any]:
    if not isinstance(array, np.ndarray):
        raise ValueError("it holds a member that is no array")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _file(source: Path) -> Path:
    found = (
        [source]
        if source.is_file()
        else sorted(path for path in source.glob("*.npz") if path.is_file())
        if source.is_dir()
        else []
    )
    if len(found) != 1:
        raise InvalidInput(f"{source} holds {len(found)} .npz files, but one is needed: give the file itself.")
    return found[0]


def _by_split(path: Path, columns: Arrays, notes: list[str]) -> tuple[dict[str, Arrays], list[str]]:
    """The arrays of each split, `x` and `y` among them, by their names without it; and the names that are of no split."""
    splits: dict[str, Arrays] = {}
    left: list[str] = []
    # With these names any other one is that of a feature.
    exact = all(f"{LABELS}_{split}" in columns for split in ("train", "test"))
    renamed: dict[str, str] = {}
    for name, array in columns.items():
        split, stem = _parts(name)
        if split is None:
            left.append(name)
            continue
        to = stem if exact else _usual(columns, split, stem)
        if to in splits.setdefault(split, {}):
            raise BadData(f"{path.name}: {name} and another array are both {to}_{split}: leave one out.")
        if name not in {f"{to}_{ending}" for ending in ENDINGS[split]}:
            renamed[name] = f"{to}_{split}"
        splits[split][to] = array
    if renamed:
        notes.append("Taken " + ", ".join(f"{name} as {to}" for name, to in renamed.items()) + ".")
    return splits, left


def _usual(columns: Arrays, split: str, stem: str) -> str:
    """What an array is, `x` or `y`, by what others call it; its own name where there is an `x` or a `y`."""
    for usual, others in ((INPUT, _INPUTS), (LABELS, _LABELS)):
        if stem.lower() in others and not any(_parts(name) == (split, usual) for name in columns):
            return usual
    return stem


def _parts(name: str) -> tuple[str | None, str]:
    """The split that an array's name ends, or begins, with, and the rest of the name."""
    for split, endings in ENDINGS.items():
        for ending in endings:
            if name.lower().endswith(f"_{ending}"):
                return split, name[: -len(ending) - 1]
    for split, endings in ENDINGS.items():
        for ending in endings:
            if name.lower().startswith(f"{ending}_"):
                return split, name[len(ending) + 1 :]
    return None, name


def _named(columns: Arrays) -> str:
    return ", ".join(name[:60] for name in sorted(columns)[:20]) or "nothing"


def _split(path: Path, columns: Arrays, arrays: Arrays, split: str) -> tuple[Arrays, NDArray[Any]]:
    """The features of a split by name, and its labels as stored."""
    arrays = dict(arrays)
    labels = arrays.pop(LABELS, None)
    if labels is None or not arrays:
        raise BadData(f"{path.name}: it needs x_{split} and y_{split}, but has {_named(columns)}.")
    features = {}
    for name, array in arrays.items():
        if array.ndim == 0:
            raise BadData(f"{path.name}: {name}_{split} is a single value, not one for each example.")
        image = array.dtype == np.uint8 and array.ndim in (3, 4)
        named = name == INPUT or (array.ndim == 3 and set(arrays) <= {name, SAMPLE_WEIGHT} and name.lower() in _INPUTS)
        features["image" if image and named else name] = array[..., np.newaxis] if image and array.ndim == 3 else array
    return features, labels
