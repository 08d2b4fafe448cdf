"""Files of models that would fill the memory; whole ones are read by inference/ and training/test_transfer.py."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from jobs.artifacts.keras_files import check_keras_file
from service.errors import BadData


def in_h5(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("layers/dense/vars/0", data=array, compression="gzip")
        file["layers/dense/name"] = "dense"
    return buffer.getvalue()


def in_npz(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "pack"), [("model.weights.h5", in_h5), ("model.weights.npz", in_npz)])
def test_weights_that_unpack_to_far_more_than_their_size_are_refused(
    tmp_path: Path, name: str, pack: Callable[[np.ndarray], bytes]
) -> None:
    for size, good in ((1000, True), (400 * 2**20, False)):
        with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
            archive.writestr(name, pack(np.zeros(size, np.uint8)))
        if good:
            check_keras_file(tmp_path / "a.keras", "a model")
            continue
        with pytest.raises(BadData, match=f"a model: {name}: it unpacks to"):
            check_keras_file(tmp_path / "a.keras", "a model")
