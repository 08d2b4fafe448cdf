"""NumPy archives: one input or several, and archives that hold something else."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.datasets.formats.npz import read
from service.errors import BadData

Refused = Callable[..., str]
Arrays = dict[str, NDArray[Any]]


def silent(_: int) -> None:
    return


def test_numbers_are_one_input(tmp_path: Path, npz_arrays: Arrays) -> None:
    np.savez_compressed(tmp_path / "a.npz", **npz_arrays)
    raw = read(tmp_path / "a.npz", silent)
    features, classes = raw.check()
    assert [(f.name, f.dtype, f.shape, f.scale) for f in features] == [("x", "float32", (6,), 1.0)] and classes == ("0", "1", "2")
    np.testing.assert_array_equal(raw.splits["test"].columns["x"], npz_arrays["x_test"])


def test_the_only_archive_of_a_folder_is_read(tmp_path: Path, npz_arrays: Arrays, refused: Refused) -> None:
    (tmp_path / "in").mkdir()
    refused(tmp_path / "in", "npz", 2, "0 .npz files")
    np.savez(tmp_path / "in" / "a.npz", **npz_arrays)
    assert set(read(tmp_path / "in", silent).splits) == {"train", "test"}
    np.savez(tmp_path / "in" / "b.npz", **npz_arrays)
    refused(tmp_path / "in", "npz", 2, "2 .npz files")


@pytest.mark.parametrize(("shape", "stored"), [((4, 5), (4, 5, 1)), ((4, 5, 3), (4, 5, 3))])
def test_bytes_in_two_dimensions_are_pictures(tmp_path: Path, shape: tuple[int, ...], stored: tuple[int, ...]) -> None:
    arrays = {f"x_{split}": np.zeros((3, *shape), np.uint8) for split in ("train", "test")}
    np.savez(tmp_path / "a.npz", **arrays, y_train=[0, 1, 1], y_test=[0, 1, 0])
    features, _ = read(tmp_path, silent).check()
    assert [(f.name, f.shape, f.scale) for f in features] == [("image", stored, 255.0)]


def test_several_arrays_are_several_inputs(tmp_path: Path, npz_arrays: Arrays) -> None:
    more = {"weight_train": np.arange(12.0), "weight_test": np.arange(5.0)}
    np.savez(tmp_path / "a.npz", **npz_arrays, **more)
    features, _ = read(tmp_path, silent).check()
    assert {f.name: f.shape for f in features} == {"x": (6,), "weight": ()}


def test_a_column_of_labels_is_a_list_of_labels(tmp_path: Path, npz_arrays: Arrays) -> None:
    np.savez(tmp_path / "a.npz", **{**npz_arrays, "y_train": npz_arrays["y_train"][:, np.newaxis].astype(np.uint8)})
    assert read(tmp_path, silent).splits["train"].labels.shape == (12,)


@pytest.mark.parametrize("order", [">f4", "F"])
def test_other_layouts_of_memory_are_stored_alike(tmp_path: Path, npz_arrays: Arrays, order: str) -> None:
    x = np.asfortranarray(npz_arrays["x_train"]) if order == "F" else npz_arrays["x_train"].astype(order)
    np.savez(tmp_path / "a.npz", **{**npz_arrays, "x_train": x})
    raw = read(tmp_path, silent)
    assert raw.check()[0][0].dtype == "float32"
    np.testing.assert_array_equal(raw.splits["train"].columns["x"], npz_arrays["x_train"])


@pytest.mark.parametrize("name", ["x_train", "y_train", "other_train", "unused"])
def test_python_objects_are_refused(tmp_path: Path, npz_arrays: Arrays, refused: Refused, name: str) -> None:
    np.savez(tmp_path / "a.npz", **{**npz_arrays, name: np.array([{"a": 1}] * 12, object)}, allow_pickle=True)
    refused(tmp_path / "a.npz", "npz", 3, "a.npz", "Python objects are not read")


@pytest.mark.parametrize("name", ["x_train", "y_train", "x_test", "y_test"])
def test_a_missing_array_is_an_error(tmp_path: Path, npz_arrays: Arrays, refused: Refused, name: str) -> None:
    del npz_arrays[name]
    np.savez(tmp_path / "a.npz", **npz_arrays)
    refused(tmp_path / "a.npz", "npz", 3, "a.npz", name, "x_train")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_split_is_an_error(tmp_path: Path, npz_arrays: Arrays, refused: Refused, split: str) -> None:
    np.savez(tmp_path / "a.npz", **{name: array for name, array in npz_arrays.items() if not name.endswith(split)})
    refused(tmp_path / "a.npz", "npz", 3, f"no {split} split", "give both")


def test_an_archive_of_nothing_known_is_an_error(tmp_path: Path, refused: Refused) -> None:
    np.savez(tmp_path / "a.npz", data=np.zeros(3))
    refused(tmp_path / "a.npz", "npz", 3, "no train split")


def test_unequal_lengths_are_errors(tmp_path: Path, npz_arrays: Arrays, refused: Refused) -> None:
    np.savez(tmp_path / "a.npz", **{**npz_arrays, "y_train": npz_arrays["y_train"][:-1]})
    refused(tmp_path / "a.npz", "npz", 3, "a.npz", "12 of 'x'", "11 labels")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.full(12, 0.5, np.float32), "whole number"),
        (np.zeros((12, 3), np.int64), "whole number"),
        (np.array(["a"] * 12), "the labels of train are texts and those of test are not"),
        (np.array([np.nan] * 12), "whole number"),
        (np.int64(3), "whole number"),
        (np.full(12, -1), "example 0 has the label -1"),
        (np.array([0] * 11 + [10**6]), "example 11 has the label 1000000"),
        (np.full(12, 2**63, np.uint64), "example 0 has the label 9223372036854775808"),
        (np.zeros(0, np.int64), "train split is empty"),
    ],
)
def test_labels_that_are_none_are_refused(
    tmp_path: Path, npz_arrays: Arrays, refused: Refused, labels: NDArray[Any], words: str
) -> None:
    np.savez(tmp_path / "a.npz", **{**npz_arrays, "y_train": labels})
    refused(tmp_path / "a.npz", "npz", 3, "a.npz", words)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((12, 6), np.complex64), "complex64"),
        (np.array([["a"] * 6] * 12), "<U1"),
        (np.zeros((12, 6), bool), "bool"),
        (np.zeros((12, 0), np.float32), "holds nothing"),
        (np.zeros((12, 7), np.float32), "(7,)"),
        (np.zeros((12, 6), np.float64), "float64"),
        (np.float32(1), "single value"),
    ],
)
def test_features_that_cannot_be_stored_are_refused(
    tmp_path: Path, npz_arrays: Arrays, refused: Refused, array: NDArray[Any], words: str
) -> None:
    np.savez(tmp_path / "a.npz", **{**npz_arrays, "x_train": array})
    refused(tmp_path / "a.npz", "npz", 3, words)


@pytest.mark.parametrize("name", ["label", "a b", "é", "a/b", "../../x", ""])
def test_names_of_features_that_would_clash_are_refused(tmp_path: Path, npz_arrays: Arrays, refused: Refused, name: str) -> None:
    arrays = {f"{name}_{split}": npz_arrays[f"x_{split}"] for split in ("train", "test")}
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for key, array in {**npz_arrays, **arrays}.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, array)
            archive.writestr(f"{key}.npy", data.getvalue())
    refused(tmp_path / "a.npz", "npz", 3, name)


def test_a_feature_of_one_split_alone_is_an_error(tmp_path: Path, npz_arrays: Arrays, refused: Refused) -> None:
    np.savez(tmp_path / "a.npz", **npz_arrays, more_test=np.zeros(5))
    refused(tmp_path / "a.npz", "npz", 3, "more")


@pytest.mark.parametrize("kept", [0, 10, 300, -30])
def test_a_truncated_archive_is_named(tmp_path: Path, npz_arrays: Arrays, refused: Refused, kept: int) -> None:
    np.savez(tmp_path / "a.npz", **npz_arrays)
    path = tmp_path / "a.npz"
    path.write_bytes(path.read_bytes()[:kept])
    refused(path, "npz", 3, "a.npz")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_flipped_byte_is_noticed(tmp_path: Path, npz_arrays: Arrays, refused: Refused, compressed: bool) -> None:
    path = tmp_path / "a.npz"
    (np.savez_compressed if compressed else np.savez)(path, **npz_arrays)
    data = bytearray(path.read_bytes())
    data[220] ^= 0xFF
    path.write_bytes(data)
    refused(path, "npz", 3, "a.npz")


@given(st.data())
def test_any_flipped_byte_is_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.npz"
    stream = io.BytesIO()
    np.savez(stream, x_train=np.zeros((2, 2)), y_train=[0, 1], x_test=np.zeros((2, 2)), y_test=[0, 1])
    content = bytearray(stream.getvalue())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        read(path, silent).check()
    except BadData as error:
        assert "\n" not in str(error)


def test_an_archive_that_claims_too_much_is_refused(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "a.npz"
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 2**20)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", head.getvalue())
    refused(path, "npz", 3, "a.npz")


def test_a_bare_array_is_no_archive(tmp_path: Path, refused: Refused) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    refused(tmp_path / "a.npy", "npz", 3, "a.npy")


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused(
    tmp_path: Path, npz_arrays: Arrays, refused: Refused
) -> None:
    np.savez_compressed(tmp_path / "a.npz", **npz_arrays, more_train=np.zeros(400 * 2**20, np.uint8))
    refused(tmp_path / "a.npz", "npz", 3, "a.npz", "it unpacks to 4194", "do not trust this file")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_of_another_packing_is_refused_before_it_is_unpacked(
    tmp_path: Path, npz_arrays: Arrays, refused: Refused, method: int
) -> None:
    # Python unpacks these by whole blocks, whatever size they claim.
    np.savez(tmp_path / "plain.npz", **npz_arrays)
    with zipfile.ZipFile(tmp_path / "plain.npz") as plain, zipfile.ZipFile(tmp_path / "a.npz", "w", method) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    refused(tmp_path / "a.npz", "npz", 3, "a.npz", "write the file again")


def test_an_archive_of_endless_arrays_is_refused(tmp_path: Path, refused: Refused) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for number in range(1001):
            archive.writestr(f"{number}.npy", b"")
    refused(tmp_path / "a.npz", "npz", 3, "a.npz", "1001 members")


def crafted(header: bytes) -> bytes:
    """An array's file with any bytes as its header, which NumPy reads by Python's parser."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(80)


@pytest.mark.parametrize(
    "header",
    [
        b"(" * 9000,
        b"(" * 900 + b")" * 900,
        b"{'descr': " + b"[('a'," * 400 + b"'<f4'" + b")]" * 400 + b", 'fortran_order': False, 'shape': (20,)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"1," * 70 + b")}",
        b"{'descr': '<U500000000', 'fortran_order': False, 'shape': (20,)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-20, 4)}",
        b"{'descr': ('<f4', (2147483647, 2147483647)), 'fortran_order': False, 'shape': (20,)}",
        b"{'descr': {}, 'fortran_order': False, 'shape': (20,)}",
        b"'''",
        b"\\\n" * 20,
        b"0" * 9000,
        b"{[]: 1}",
        b"\0",
    ],
)
def test_a_header_of_any_kind_is_refused_in_one_sentence(tmp_path: Path, refused: Refused, header: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x_train.npy", crafted(header))
    refused(tmp_path / "a.npz", "npz", 3, "a.npz")


@given(st.binary(max_size=200) | st.text("(){}[]'\\,:0123456789eE_ \n-<fU", max_size=200).map(str.encode))
def test_noise_as_a_header_is_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, header: bytes) -> None:
    path = tmp_path_factory.mktemp("noise") / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", crafted(header))
    with pytest.raises(BadData) as caught:
        read(path, silent)
    assert "\n" not in str(caught.value)


def test_a_pipe_is_no_archive(tmp_path: Path, refused: Refused) -> None:
    os.mkfifo(tmp_path / "a.npz")
    refused(tmp_path, "npz", 2, "0 .npz files")


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ("X_{}", "Y_{}"),
        ("{}_images", "{}_labels"),
        ("x_{}", "labels_{}"),
        ("{}_data", "{}_targets"),
        ("images_{}", "labels_{}"),
        ("{}_x", "{}_y"),
    ],
)
def test_other_names_of_examples_and_labels_are_understood_and_said(tmp_path: Path, npz_arrays: Arrays, x: str, y: str) -> None:
    np.savez(tmp_path / "a.npz", **{(x if name[0] == "x" else y).format(name[2:]): array for name, array in npz_arrays.items()})
    raw = read(tmp_path, silent)
    assert raw.check()[0][0].name == "x" and raw.notes[0].startswith("Taken ") and y.format("test") in raw.notes[0]
    np.testing.assert_array_equal(raw.splits["test"].columns["x"], npz_arrays["x_test"])


@pytest.mark.parametrize("ending", ["val", "valid", "validation"])
def test_validation_arrays_are_the_validation_split(tmp_path: Path, npz_arrays: Arrays, ending: str) -> None:
    more = {f"x_{ending}": npz_arrays["x_test"], f"y_{ending}": npz_arrays["y_test"]}
    np.savez(tmp_path / "a.npz", **npz_arrays, **more)
    raw = read(tmp_path, silent)
    assert list(raw.splits) == ["train", "test", "validation"] and not raw.notes
    del more[f"y_{ending}"]
    np.savez(tmp_path / "a.npz", **npz_arrays, **more)
    raw = read(tmp_path, silent)
    assert list(raw.splits) == ["train", "test"] and "x_validation" in raw.notes[0]


def test_names_that_mean_nothing_are_errors_with_those_that_are_wanted(
    tmp_path: Path, npz_arrays: Arrays, refused: Refused
) -> None:
    np.savez(tmp_path / "a.npz", npz_arrays["x_train"], npz_arrays["y_train"])
    refused(tmp_path / "a.npz", "npz", 3, "x_train and y_train are wanted", "it has arr_0, arr_1")
    np.savez(tmp_path / "a.npz", **npz_arrays, extra=np.zeros(3))
    assert "extra" in read(tmp_path, silent).notes[0]


@pytest.mark.parametrize("kind", [">i8", ">i4", ">u2"])
def test_labels_of_another_byte_order_are_stored_alike(tmp_path: Path, npz_arrays: Arrays, kind: str) -> None:
    np.savez(tmp_path / "a.npz", **{**npz_arrays, "y_train": npz_arrays["y_train"].astype(kind)})
    np.testing.assert_array_equal(read(tmp_path, silent).splits["train"].labels, npz_arrays["y_train"])


@pytest.mark.parametrize("kind", [np.float32, np.int64, np.uint8, bool])
def test_one_hot_labels_are_class_numbers(tmp_path: Path, npz_arrays: Arrays, kind: type) -> None:
    hot = {f"y_{split}": np.eye(5)[npz_arrays[f"y_{split}"]].astype(kind) for split in ("train", "test")}
    np.savez(tmp_path / "a.npz", **{**npz_arrays, **hot})
    raw = read(tmp_path, silent)
    np.testing.assert_array_equal(raw.splits["test"].labels, npz_arrays["y_test"])
    assert raw.check()[1] == tuple("01234") and "one-hot, 5 columns" in raw.notes[0]


@pytest.mark.parametrize("kind", ["U", "S"])
def test_text_labels_become_classes(tmp_path: Path, npz_arrays: Arrays, kind: str) -> None:
    names = np.array(["rose", "aster", "tulip"]).astype(kind)
    texts = {f"y_{split}": names[npz_arrays[f"y_{split}"]] for split in ("train", "test")}
    np.savez(tmp_path / "a.npz", **{**npz_arrays, **texts})
    raw = read(tmp_path, silent)
    assert raw.check()[1] == ("aster", "rose", "tulip")
    assert raw.splits["train"].labels[:3].tolist() == [1, 0, 2]


@pytest.mark.parametrize(("kind", "word"), [(bool, "truth values"), (np.float64, "fractions")])
def test_labels_that_are_numbers_in_another_type_are_taken_and_said(
    tmp_path: Path, npz_arrays: Arrays, kind: type, word: str
) -> None:
    labels = {f"y_{split}": (npz_arrays[f"y_{split}"] > 0).astype(kind) for split in ("train", "test")}
    np.savez(tmp_path / "a.npz", **{**npz_arrays, **labels})
    raw = read(tmp_path, silent)
    assert raw.check()[1] == ("0", "1") and word in raw.notes[0]
    np.testing.assert_array_equal(raw.splits["train"].labels, labels["y_train"])
