"""Arrays of labels as class numbers: whole numbers, columns of them, one-hot rows, texts, truth values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import BadData

Labels = NDArray[Any]
OF_FRACTIONS = "The labels{} are written as fractions and are whole: taken as class numbers."


@dataclass(frozen=True)
class ClassNumbers:
    """Class numbers [rows] by split, as far as they can be understood; the classes' names, or None to number them; notes."""

    numbers: Mapping[str, NDArray[Any]]
    names: tuple[str, ...] | None
    notes: tuple[str, ...] = ()


def read_labels(origin: str, labels: Mapping[str, Labels]) -> ClassNumbers:
    """The labels of all splits; raise BadData where splits hold different kinds. What is no label is left for the check of all formats."""
    columns = {split: array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array for split, array in labels.items()}
    texts = [split for split, array in columns.items() if array.ndim == 1 and array.dtype.kind in "US"]
    if texts:
        return _named(origin, columns, texts)
    notes: dict[str, None] = {}
    numbers = {}
    widths = {array.shape[1] for array in columns.values() if array.ndim == 2}
    for split, array in columns.items():
        numbers[split], note = _numbers(array)
        if note:
            notes[note] = None
    if len(widths) > 1 and all(array.ndim == 1 for array in numbers.values()):
        raise BadData(
            f"{origin}: the one-hot labels have {' and '.join(map(str, sorted(widths)))} columns: give all splits the same classes."
        )
    return ClassNumbers(numbers, _as_wide(columns, numbers), tuple(notes))


def _as_wide(columns: Mapping[str, Labels], numbers: Mapping[str, Labels]) -> tuple[str, ...] | None:
    """As many classes as one-hot labels have columns, also where the last ones have no example."""
    widths = [array.shape[1] for split, array in columns.items() if array.ndim == 2 and numbers[split].ndim == 1]
    return tuple(str(number) for number in range(widths[0])) if widths else None


def _numbers(array: Labels) -> tuple[Labels, str]:
    """Class numbers, and what was changed; the array itself where it is none that is understood."""
    if array.ndim == 1 and array.dtype.kind == "b":
        return array.astype(np.int64), "The labels are truth values: false is class 0, true class 1."
    if array.ndim == 1 and array.dtype.kind == "f" and len(array) and _whole(array):
        return array.astype(np.int64), OF_FRACTIONS.format("")
    if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "biuf" and _one_hot(array):
        return array.argmax(axis=1), f"The labels are one-hot, {array.shape[1]} columns: taken as class numbers."
    return array, ""


def _whole(array: Labels) -> bool:
    return bool((np.isfinite(array) & (array == np.floor(array)) & (np.abs(array) < 2**53)).all())


def _one_hot(array: Labels) -> bool:
    return len(array) > 0 and bool(np.isin(array, (0, 1)).all() and (np.count_nonzero(array, axis=1) == 1).all())


def _named(origin: str, columns: Mapping[str, Labels], texts: list[str]) -> ClassNumbers:
    others = [split for split in columns if split not in texts]
    if others:
        raise BadData(
            f"{origin}: the labels of {texts[0]} are texts and those of {others[0]} are not: give all splits the same kind."
        )
    try:
        found = {split: np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array for split, array in columns.items()}
    except UnicodeDecodeError as error:
        raise BadData(f"{origin}: the labels have a text that is not UTF-8: give them as texts, .astype(str).") from error
    names = np.unique(np.concatenate(list(found.values())))
    if "" in names:
        raise BadData(f"{origin}: some labels are empty texts: give every example a label.")
    numbers = {split: np.searchsorted(names, array).astype(np.int64) for split, array in found.items()}
    return ClassNumbers(numbers, tuple(map(str, names)))
