"""NumPy archives: `x_train`, `y_train`, `x_test`, `y_test`, and further features as `NAME_train` and `NAME_test`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.datasets.choices import NONE, Choices
from service.datasets.raw import RawDataset, RawSplit
from service.datasets.unpacked import check_archive
from service.errors import BadData, InvalidInput

MOST_BYTES = 64 * 1024**3
SUFFIXES = {"train": ("train",), "test": ("test",), "validation": ("val", "valid", "validation")}
"""How the arrays of a split may end."""


def read(source: Path, progress: Callable[[int], None], choices: Choices = NONE) -> RawDataset:
    """Read one .npz file, or the only one in a folder. Arrays of images gain a channel axis where they have none."""
    path = _file(source)
    columns = read_arrays(path, MOST_BYTES)
    progress(path.stat().st_size)
    splits = {}
    for split, suffixes in SUFFIXES.items():
        for suffix in suffixes:
            if f"y_{suffix}" in columns or f"x_{suffix}" in columns:
                splits[split] = _split(path, columns, suffix)
                break
    return RawDataset(splits)


def read_arrays(path: Path, most_bytes: int) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz file by name; raise BadData for a damaged one, and for one of more than `most_bytes` unpacked."""
    try:
        claimed = check_archive(path, path.name)
        if claimed > most_bytes:
            raise BadData(f"{path.name}: it claims {claimed} bytes unpacked, more than {most_bytes}.")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except BadData:
        raise
    except Exception as error:
        # NumPy reads the headers of arrays by Python's parser, which raises whatever it raises.
        pickled = " (arrays of Python objects are not read)" if "Object arrays" in str(error) else ""
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise BadData(f"{path.name}: it is no intact .npz file: {reason}{pickled}.") from error


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


def _split(path: Path, columns: dict[str, NDArray[Any]], split: str) -> RawSplit:
    names = {name.removesuffix(f"_{split}"): array for name, array in columns.items() if name.endswith(f"_{split}")}
    labels = names.pop("y", None)
    if labels is None or not names:
        raise BadData(f"{path.name}: it needs x_{split} and y_{split}, but has {', '.join(sorted(columns)) or 'nothing'}.")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    features = {}
    for name, array in names.items():
        if array.ndim == 0:
            raise BadData(f"{path.name}: {name}_{split} is a single value, not one for each example.")
        image = array.dtype == np.uint8 and array.ndim in (3, 4)
        features["image" if image and name == "x" else name] = array[..., np.newaxis] if image and array.ndim == 3 else array
    return RawSplit(features, labels, f"{path.name}, y_{split}")
