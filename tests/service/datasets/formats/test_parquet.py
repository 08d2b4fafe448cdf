"""Parquet files as others write them: pictures, lists and numbers in columns, and files that are damaged."""

import datetime
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from service.datasets.choices import Choices
from service.datasets.formats.parquet import read
from service.datasets.importer import import_dataset
from service.datasets.manifest import Manifest
from service.errors import BadData
from service.storage.base import Store

Refused = Callable[..., str]


def silent(_: int) -> None:
    return


def picture(value: int, mode: str = "L", size: tuple[int, int] = (6, 4), kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value, 0, 0)).save(stream, kind)
    return stream.getvalue()


def write(folder: Path, columns: dict[str, Any], schema: pa.Schema | None = None, **test: Any) -> Path:
    """The same columns as train.parquet and, with changes, as test.parquet."""
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns, schema=schema), folder / "train.parquet")
    pq.write_table(pa.table({**columns, **test}, schema=schema), folder / "test.parquet")
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


@pytest.mark.parametrize("struct", [False, True])
def test_encoded_pictures_are_taken_as_folders_of_pictures_are(tmp_path: Path, struct: bool) -> None:
    exif, turned, laid = Image.Exif(), io.BytesIO(), io.BytesIO()
    exif[0x0112] = 8
    Image.fromarray(np.arange(24, dtype=np.uint8).reshape(6, 4)).save(turned, "PNG", exif=exif)
    Image.new("RGBA", (6, 4), (0, 0, 0, 0)).save(laid, "WEBP", lossless=True, exact=True)
    data = [picture(7), turned.getvalue(), picture(200, "RGB", kind="BMP")]

    def column(pictures: list[bytes]) -> list[Any]:
        return [{"bytes": one, "path": None} for one in pictures] if struct else pictures

    folder = write(tmp_path / "p", {"image": column(data), "label": [0, 1, 0]}, image=column([laid.getvalue()] * 3))
    raw = read(folder, silent)
    assert raw.check()[0][0].shape == (4, 6, 3) and raw.ground == "white"
    images = raw.splits["train"].columns["image"]
    assert images[0, 0, 0].tolist() == [7, 7, 7] and images[2, 0, 0].tolist() == [200, 0, 0]
    np.testing.assert_array_equal(images[1, ..., 1], np.rot90(np.arange(24).reshape(6, 4)))
    assert raw.splits["test"].columns["image"].min() == 255
    assert [note.partition(";")[0] for note in raw.notes] == [
        "Column image: 1 of 6 pictures is turned as the EXIF orientation says",
        "Column image: 3 of 6 pictures are transparent and laid over white (--ground black for the other)",
        "Column image: 3 of 6 pictures are wholly transparent, so that all is white",
        "Column image: 2 of 6 pictures are grey and made a colour picture, for others have colours",
    ]
    assert raw.notes[0].endswith("; it is train.parquet: row 1 of the column image.")
    assert read(folder, silent, Choices(ground="black")).splits["test"].columns["image"].max() == 0


def test_a_picture_that_lies_elsewhere_is_asked_for(tmp_path: Path, refused: Refused) -> None:
    column = [{"bytes": picture(1), "path": "a.png"}, {"bytes": None, "path": "/data/b.png"}]
    folder = write(tmp_path / "p", {"image": column, "label": [0, 1]})
    refused(folder, "parquet", 3, "row 1 of the column image", "'/data/b.png'", "lies elsewhere", "embed_table_storage")
    write(folder, {"image": [{"bytes": picture(1), "path": "a.png"}, {"bytes": None, "path": None}], "label": [0, 1]})
    refused(folder, "parquet", 3, "row 1 of the column image", "an empty value")
    write(folder, {"image": [{"other": 1.0}, {"other": 2.0}], "label": [0, 1]})
    refused(folder, "parquet", 3, "row 0 of the column image", "struct<other: double>", "an encoded picture")


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


def test_a_missing_label_column_is_an_error(tmp_path: Path, refused: Refused) -> None:
    refused(write(tmp_path / "p", {"a": [1.0], "target": [0]}), "parquet", 3, "train.parquet", "no column label", "a, target")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_split_is_an_error(folder: Path, refused: Refused, split: str) -> None:
    (folder / f"{split}.parquet").unlink()
    refused(folder, "parquet", 2, f"{split}.parquet")


def test_a_file_is_no_folder_of_splits(folder: Path, refused: Refused) -> None:
    refused(folder / "train.parquet", "parquet", 2, "train.parquet")


@pytest.mark.parametrize(
    "labels", [[0.5, 1.0, 0.0], [0, None, 1], ["a", None, "b"], [-1, 0, 1], [[0], [1], [0]], [2.0, 1.5, 1.0], [None] * 3]
)
def test_labels_that_are_none_are_refused(tmp_path: Path, refused: Refused, labels: list[Any]) -> None:
    refused(write(tmp_path / "p", {"a": [1.0, 2.0, 3.0], "label": labels}), "parquet", 3, "label")


def test_labels_of_two_kinds_are_refused(tmp_path: Path, refused: Refused) -> None:
    refused(write(tmp_path / "p", {"a": [1.0], "label": [0]}, label=["cat"]), "parquet", 3, "label")


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([1.0, None, 2.0], "1 empty"),
        (["a", "b", "c"], "--one-hot column"),
        ([[1.0], [1.0, 2.0], [3.0]], "length"),
        ([[1.0], [None], [3.0]], "hold no numbers"),
        ([["a"], ["b"], ["c"]], "must be one of uint8"),
        ([[], [], []], "holds nothing"),
        ([b"no picture"] * 3, "row 0"),
        ([{"path": "x.png"}] * 3, "row 0"),
        ([datetime.date(2026, 1, 2)] * 3, "write what counts of them as numbers"),
        ([1e39, 1.0, 2.0], "1 values beyond float32's range"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(tmp_path: Path, refused: Refused, column: list[Any], words: str) -> None:
    refused(write(tmp_path / "p", {"column": column, "label": [0, 1, 0]}), "parquet", 3, "column", words)


def test_a_column_name_that_cannot_be_an_input_is_refused(tmp_path: Path, refused: Refused) -> None:
    refused(write(tmp_path / "p", {"a/b": [[1.0], [2.0]], "label": [0, 1]}), "parquet", 3, "a/b", "use letters")


def test_a_picture_of_another_size_is_named(tmp_path: Path, refused: Refused) -> None:
    data = [picture(1), picture(2, size=(6, 5))]
    refused(write(tmp_path / "p", {"image": data, "label": [0, 1]}), "parquet", 3, "row 1", "6x5", "row 0", "6x4", "one size")


def test_labels_alone_are_no_examples(tmp_path: Path, refused: Refused) -> None:
    refused(write(tmp_path / "p", {"label": [0, 1]}), "parquet", 3, "nothing but labels")


def test_no_rows_are_no_examples(tmp_path: Path, refused: Refused) -> None:
    columns = {"a": pa.array([], pa.float32()), "label": pa.array([], pa.int64())}
    refused(write(tmp_path / "p", columns), "parquet", 3, "empty")


@pytest.mark.parametrize("change", [{"b": [0.5, 1, 2]}, {"c": [1, 2, 3]}])
def test_columns_of_test_that_differ_are_errors(folder: Path, refused: Refused, change: dict[str, Any]) -> None:
    table = pa.table({"a": [[1.0], [2.0], [3.0]], "b": [4, 5, 6], "label": [0, 1, 0], **change})
    pq.write_table(table, folder / "test.parquet")
    refused(folder, "parquet", 3, "train")


def test_files_of_one_split_with_other_columns_are_errors(folder: Path, refused: Refused) -> None:
    (folder / "train.parquet").rename(folder / "train-0.parquet")
    pq.write_table(pa.table({"a": [1.0], "label": [0]}), folder / "train-1.parquet")
    refused(folder, "parquet", 3, "train-1.parquet: it has no column b, which train-0.parquet has")


BOMB = """
import sys
from pathlib import Path
from service.datasets.formats.parquet import read
from service.errors import BadData
def memory(name):
    return int(Path("/proc/self/status").read_text().split(name)[1].split()[0]) // 1024
before = memory("VmRSS:")
try:
    read(Path(sys.argv[1]), lambda _: None)
except BadData as error:
    print(error)
print(memory("VmHWM:") - before)
"""


def refused_in_little_memory(folder: Path) -> str:
    """What a process says that reads the folder; it may take 400 MiB for it."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", BOMB, str(folder)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    message, _, used = done.stdout.strip().rpartition("\n")
    assert message and "\n" not in message and int(used) < 400, done.stdout
    return message


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured by Linux")
@pytest.mark.parametrize(("side", "struct"), [(9000, False), (12_000, True), (30_000, False)])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(
    tmp_path: Path, flat_png: Callable[..., bytes], side: int, struct: bool
) -> None:
    # Pillow itself warns of 9500 x 9500 pixels, and refuses 13400 x 13400.
    column: list[Any] = [picture(0), flat_png(side, side, rows=10)]
    folder = write(tmp_path / "p", {"image": [{"bytes": one} for one in column] if struct else column, "label": [0, 1]})
    message = refused_in_little_memory(folder)
    assert "train.parquet: row 1 of the column image: " in message
    assert f"{side * side} pixels" in message and "more than 67108864" in message and (tmp_path / "p").stat().st_size < 10_000


def repeated(rows: int, size: int) -> pa.Table:
    """One text in all rows, as Parquet's own dictionaries hold it once."""
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([bytes(size)]))
    return pa.table({"image": texts, "label": pa.array(np.zeros(rows, np.int64))})


def long_lists(rows: int, length: int) -> pa.Table:
    return pa.table({"v": pa.FixedSizeListArray.from_arrays(np.zeros(rows * length, np.uint8), length), "label": [0] * rows})


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured by Linux")
@pytest.mark.parametrize("what", ["a text again and again", "a long text again and again", "numbers", "lists", "pictures"])
def test_a_small_file_of_much_is_refused_in_little_memory(tmp_path: Path, flat_png: Callable[..., bytes], what: str) -> None:
    made = {
        "a text again and again": lambda: repeated(1_000_000, 10_000),
        "a long text again and again": lambda: repeated(2_000, 4_000_000),
        "numbers": lambda: pa.table(
            {"a": np.zeros(20_000_000), "b": np.zeros(20_000_000), "label": np.zeros(20_000_000, np.int8)}
        ),
        "lists": lambda: long_lists(400, 100_000),
        "pictures": lambda: pa.table({"image": [flat_png(6000, 6000)] * 5, "label": [0] * 5}),
    }[what]()
    # Without the schema of Arrow, in which a column that is a dictionary here would be one there too.
    pq.write_table(made, tmp_path / "train.parquet", compression="zstd", store_schema=False)
    pq.write_table(made.slice(0, 1), tmp_path / "test.parquet")
    assert (tmp_path / "train.parquet").stat().st_size < 300_000
    message = refused_in_little_memory(tmp_path)
    assert "train.parquet" in message and "do not trust" in message


@pytest.mark.parametrize(
    "metadata", [b"no JSON", b"[]", b'{"dtype": "O", "shape": [1]}', b'{"dtype": "uint8", "shape": [-1, 7]}', b"{}"]
)
def test_what_a_field_says_of_itself_is_not_trusted(tmp_path: Path, refused: Refused, metadata: bytes) -> None:
    field = pa.field("x", pa.binary(4), metadata={"delayline": metadata})
    schema = pa.schema([field, pa.field("label", pa.int64())])
    refused(write(tmp_path / "p", {"x": [b"abcd"], "label": [0]}, schema=schema), "parquet", 3, "column x")


CHANGED = """
import sys
from pathlib import Path
import pyarrow as pa
from service.datasets.parquet_files import read_file
from service.errors import BadData
path = Path(sys.argv[1])
content = path.read_bytes()
for place in range(len(content) - 8 - int.from_bytes(content[-8:-4], "little"), len(content)):
    for change in (1, 8, 64):
        changed = bytearray(content)
        changed[place] ^= change
        path.write_bytes(changed)
        try:
            read_file(path)
        except (pa.ArrowException, OSError, ValueError, BadData):
            pass
"""


def test_no_changed_byte_of_a_files_description_ends_the_process(tmp_path: Path) -> None:
    # Arrow 26 ends it where the description of a column contradicts itself and is asked for by Python.
    folder = write(tmp_path / "p", {"a": [1.0, 2.0], "v": [[1, 2], [3, 4]], "image": [picture(1), picture(2)], "label": [0, 1]})
    done = subprocess.run(
        [sys.executable, "-c", CHANGED, str(folder / "train.parquet")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-500:]


@given(st.data())
def test_a_changed_byte_of_a_parquet_file_is_a_dataset_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "changed"
    write(folder, {"a": [1.0, 2.0], "v": [[1, 2], [3, 4]], "image": [picture(1), picture(2)], "label": [0, 1]})
    content = bytearray((folder / "train.parquet").read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / "train.parquet").write_bytes(content)
    try:
        read(folder, silent).check()
    except BadData as error:
        assert "\n" not in str(error)


def test_a_column_of_weights_is_kept_apart(tmp_path: Path) -> None:
    for split in ("train", "test"):
        table = pa.table({"a": [1.0, 2.0], "sample_weight": [1, 3], "b": [3, 4], "label": [0, 1]})
        pq.write_table(table, tmp_path / f"{split}.parquet")
    columns = read(tmp_path, lambda count: None).splits["train"].columns
    assert columns["x"].tolist() == [[1, 3], [2, 4]]
    assert columns["sample_weight"].tolist() == [1, 3]
