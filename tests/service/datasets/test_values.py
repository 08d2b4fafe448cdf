"""What an import says of values: NaN, infinity, pictures that were not scaled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.datasets import values
from service.datasets.choices import Choices
from service.datasets.importer import import_dataset
from service.datasets.manifest import Manifest
from service.storage.base import Store

Refused = Callable[..., str]


def archive(folder: Path, x: NDArray[Any]) -> Path:
    labels = np.arange(len(x)) % 2
    np.savez(folder / "a.npz", x_train=x, y_train=labels, x_test=x, y_test=labels)
    return folder / "a.npz"


def test_what_is_not_finite_is_counted_and_refused_unless_it_is_allowed(
    local_store: Store, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several blocks: what is counted is all of them.
    monkeypatch.setattr(values, "BLOCK", 100)
    x = np.ones((40, 6), np.float64)
    x[3, 1] = x[39, 5] = np.nan
    x[20, 2] = -np.inf
    path = archive(tmp_path, x)
    refused(path, "npz", 3, "a.npz, y_train: x has 2 NaN and 1 infinite values", "--allow-nan")
    made = import_dataset(local_store, "d", str(path), "npz", choices=Choices(allow_nan=True))
    assert made.notes[0].startswith("In train: x has 2 NaN and 1 infinite values")


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (np.arange(8 * 64).reshape(8, 8, 8) % 256, True),
        (np.arange(8 * 64).reshape(8, 8, 8) % 256 / 1.0, True),
        ((np.arange(8 * 192).reshape(8, 8, 8, 3) % 256).astype(np.int32), True),
        ((np.arange(8 * 64).reshape(8, 64) % 256).astype(np.uint8), True),
        ((np.arange(8 * 64).reshape(8, 8, 8) % 256).astype(np.uint8), False),
        (np.arange(8 * 64).reshape(8, 8, 8) % 256 / 255, False),
        (np.arange(8 * 64).reshape(8, 8, 8) - 5, False),
        (np.arange(8 * 64).reshape(8, 8, 8), False),
        (np.arange(8 * 6).reshape(8, 6) * 5, False),
    ],
)
def test_numbers_that_look_like_pictures_are_said_to_be_unscaled(
    local_store: Store, tmp_path: Path, x: NDArray[Any], told: bool
) -> None:
    made: Manifest = import_dataset(local_store, "d", str(archive(tmp_path, x)), "npz")
    assert any("unscaled pictures" in note for note in made.notes) == told


def test_labels_that_begin_with_one_leave_a_class_without_examples(local_store: Store, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.eye(2), y_train=[1, 2], x_test=np.eye(2), y_test=[1, 2])
    assert (
        "1 of 3 classes have no example in train: 0;" in import_dataset(local_store, "d", str(tmp_path / "a.npz"), "npz").notes[0]
    )
