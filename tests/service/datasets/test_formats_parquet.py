"""Parquet files as others write them: pictures, lists and numbers in columns, and files that are damaged."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from service.datasets.formats.parquet import read
from service.datasets.importer import import_dataset
from service.datasets.manifest import Manifest
from service.storage.base import Store

Refused = Callable[..., str]


def silent(_: int) -> None:
    return


def picture(value: int, mode: str = "L", size: tuple[int, int] = (6, 4), kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value, 0, 0)).save(stream, kind)
    return stream.getvalue()


def write(folder: Path, columns: dict[str, Any], **test: Any) -> Path:
    """The same columns as train.parquet and, with changes, as test.parquet."""
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / "train.parquet")
    pq.write_table(pa.table({**columns, **test}), folder / "test.parquet")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "tables", {"a": [1.0, 2.0, 3.0], "b": [4, 5, 6], "label": [0, 1, 0]})


def test_numbers_together_are_one_input(folder: Path) -> None:
    raw = read(folder, silent)
    assert [(f.name, f.dtype, f.shape) for f in raw.check()[0]] == [("x", "float32", (2,))]
    assert raw.splits["train"].columns["x"].tolist() == [[1, 4], [2, 5], [3, 6]]


def test_many_files_of_a_split_are_read_in_order(folder: Path) -> None:
    (folder / "train.parquet").unlink()
    for number in range(3):
        table = pa.table({"a": [float(number)], "b": [0], "label": [number]})
        pq.write_table(table, folder / f"train-0000{number}-of-00003.parquet")
    assert read(folder, silent).splits["train"].labels.tolist() == [0, 1, 2]


def test_folders_of_files_are_read(folder: Path) -> None:
    for split in ("train", "test"):
        (folder / split).mkdir()
        (folder / f"{split}.parquet").rename(folder / split / "part.parquet")
    assert len(read(folder, silent).splits["train"].labels) == 3


@pytest.mark.parametrize("struct", [False, True])
@pytest.mark.parametrize(("mode", "kind", "channels"), [("L", "PNG", 1), ("RGB", "PNG", 3), ("RGB", "JPEG", 3)])
def test_encoded_pictures_are_decoded(tmp_path: Path, struct: bool, mode: str, kind: str, channels: int) -> None:
    data = [picture(value, mode, kind=kind) for value in (10, 200)]
    column = [{"bytes": one, "path": "x.png"} for one in data] if struct else data
    raw = read(write(tmp_path / "p", {"image": column, "label": [0, 1]}), silent)
    assert [(f.name, f.shape, f.scale) for f in raw.check()[0]] == [("image", (4, 6, channels), 255.0)]
    assert abs(int(raw.splits["train"].columns["image"][1, 0, 0, 0]) - 200) <= 2


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 4), pa.large_list(pa.float32())])
def test_lists_are_arrays(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array([[1, 2, 3, 4], [5, 6, 7, 8]], kind)
    raw = read(write(tmp_path / "p", {"v": column, "label": [0, 1]}), silent)
    assert raw.splits["train"].columns["v"].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]] and raw.check()[0][0].dtype == "float32"


def test_names_as_labels_become_classes(tmp_path: Path) -> None:
    raw = read(write(tmp_path / "p", {"a": [1.0, 2.0], "label": ["dog", "cat"]}, label=["dog", "dog"]), silent)
    assert raw.check()[1] == ("cat", "dog") and raw.splits["train"].labels.tolist() == [1, 0]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int8(), pa.string()), pa.string_view()])
def test_names_of_other_types_become_classes(tmp_path: Path, kind: pa.DataType) -> None:
    names = pa.array(["dog", "cat"], kind)
    assert read(write(tmp_path / "p", {"a": [1.0, 2.0], "label": names}), silent).check()[1] == ("cat", "dog")


def test_delaylines_own_shards_are_read_again(local_store: Store, tmp_path: Path, npz_arrays: dict[str, Any]) -> None:
    pictures = {
        f"p_{split}": np.arange(rows * 12, dtype=np.uint8).reshape(rows, 2, 2, 3) for split, rows in (("train", 12), ("test", 5))
    }
    np.savez(tmp_path / "a.npz", **npz_arrays, **pictures)
    first: Manifest = import_dataset(local_store, "first", str(tmp_path / "a.npz"), "npz")
    (tmp_path / "copy").mkdir()
    for shard in first.shards:
        local_store.download(shard.key, tmp_path / "copy" / Path(shard.key).name)
    second = import_dataset(local_store, "second", str(tmp_path / "copy"), "parquet")
    assert second.features == first.features and second.version == first.version
    assert [shard.sha256 for shard in second.shards] == [shard.sha256 for shard in first.shards]


@pytest.mark.parametrize("kept", [0, 3, 100, -10])
def test_a_truncated_file_is_named(folder: Path, refused: Refused, kept: int) -> None:
    path = folder / "test.parquet"
    path.write_bytes(path.read_bytes()[:kept])
    refused(folder, "parquet", 3, "test.parquet", f"{path.stat().st_size} bytes")


def test_what_is_no_parquet_file_is_named(folder: Path, refused: Refused) -> None:
    (folder / "train.parquet").write_bytes(b"no parquet at all" * 10)
    refused(folder, "parquet", 3, "train.parquet", "170 bytes")


def test_a_missing_label_column_is_told(tmp_path: Path, refused: Refused) -> None:
    refused(write(tmp_path / "p", {"a": [1.0], "target": [0]}), "parquet", 3, "train.parquet", "no column label", "a, target")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_split_is_told(folder: Path, refused: Refused, split: str) -> None:
    (folder / f"{split}.parquet").unlink()
    refused(folder, "parquet", 2, f"{split}.parquet")


def test_a_file_is_no_folder_of_splits(folder: Path, refused: Refused) -> None:
    refused(folder / "train.parquet", "parquet", 2, "train.parquet")


@pytest.mark.parametrize(
    "labels", [[0.5, 1.0, 0.0], [0, None, 1], ["a", None, "b"], [-1, 0, 1], [[0], [1], [0]], [True, False, True], [None] * 3]
)
def test_labels_that_are_none_are_refused(tmp_path: Path, refused: Refused, labels: list[Any]) -> None:
    refused(write(tmp_path / "p", {"a": [1.0, 2.0, 3.0], "label": labels}), "parquet", 3, "label")


def test_labels_of_two_kinds_are_refused(tmp_path: Path, refused: Refused) -> None:
    refused(write(tmp_path / "p", {"a": [1.0], "label": [0]}, label=["cat"]), "parquet", 3, "label")


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([1.0, None, 2.0], "1 empty"),
        (["a", "b", "c"], "string"),
        ([[1.0], [1.0, 2.0], [3.0]], "length"),
        ([[1.0], [None], [3.0]], "hold no numbers"),
        ([["a"], ["b"], ["c"]], "must be one of uint8"),
        ([[], [], []], "holds nothing"),
        ([b"no picture"] * 3, "row 0"),
        ([{"path": "x.png"}] * 3, "row 0"),
        ([True, False, True], "bool"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(tmp_path: Path, refused: Refused, column: list[Any], words: str) -> None:
    refused(write(tmp_path / "p", {"column": column, "label": [0, 1, 0]}), "parquet", 3, "column", words)


def test_a_column_name_that_cannot_be_an_input_is_refused(tmp_path: Path, refused: Refused) -> None:
    refused(write(tmp_path / "p", {"a/b": [[1.0], [2.0]], "label": [0, 1]}), "parquet", 3, "a/b", "use letters")


def test_a_picture_of_another_size_is_named(tmp_path: Path, refused: Refused) -> None:
    data = [picture(1), picture(2, size=(6, 5))]
    refused(write(tmp_path / "p", {"image": data, "label": [0, 1]}), "parquet", 3, "row 1", "(5, 6, 1)", "(4, 6, 1)")


def test_labels_alone_are_no_examples(tmp_path: Path, refused: Refused) -> None:
    refused(write(tmp_path / "p", {"label": [0, 1]}), "parquet", 3, "nothing but labels")


def test_no_rows_are_no_examples(tmp_path: Path, refused: Refused) -> None:
    columns = {"a": pa.array([], pa.float32()), "label": pa.array([], pa.int64())}
    refused(write(tmp_path / "p", columns), "parquet", 3, "empty")


@pytest.mark.parametrize("change", [{"b": [0.5, 1, 2]}, {"c": [1, 2, 3]}])
def test_columns_of_test_that_differ_are_told(folder: Path, refused: Refused, change: dict[str, Any]) -> None:
    table = pa.table({"a": [[1.0], [2.0], [3.0]], "b": [4, 5, 6], "label": [0, 1, 0], **change})
    pq.write_table(table, folder / "test.parquet")
    refused(folder, "parquet", 3, "train")


def test_files_of_one_split_with_other_columns_are_told(folder: Path, refused: Refused) -> None:
    (folder / "train.parquet").rename(folder / "train-0.parquet")
    pq.write_table(pa.table({"a": [1.0], "label": [0]}), folder / "train-1.parquet")
    refused(folder, "parquet", 3, "different columns")
