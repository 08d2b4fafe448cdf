"""Which columns of tables become features and labels, and what each number is called: Parquet and CSV alike."""

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.datasets.choices import Choices
from service.datasets.formats import csv, parquet
from service.datasets.importer import import_dataset
from service.datasets.raw import RawDataset
from service.errors import BadData, DelaylineError, InvalidInput
from service.storage.base import Store

Columns = dict[str, Any]


def silent(_: int) -> None:
    return


def write(folder: Path, train: pa.Table, test: pa.Table | None = None, **others: pa.Table) -> Path:
    folder.mkdir(exist_ok=True)
    for split, table in {"train": train, "test": train if test is None else test, **others}.items():
        pq.write_table(table, folder / f"{split}.parquet")
    return folder


def read(folder: Path, **choices: Any) -> RawDataset:
    return parquet.read(folder, silent, Choices(**choices))


def pandas_table(columns: Columns, index: list[Any]) -> pa.Table:
    """As pandas.DataFrame.to_parquet writes it: the index columns last, named in the metadata."""
    return pa.table(columns).replace_schema_metadata({"pandas": json.dumps({"index_columns": index, "columns": []})})


@given(st.permutations(["a", "b", "c", "label"]), st.permutations(["a", "b", "c", "label"]), st.booleans())
def test_columns_meet_by_their_names_in_the_order_of_train(
    tmp_path_factory: pytest.TempPathFactory, train: list[str], test: list[str], as_csv: bool
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"orders-{as_csv}"
    folder.mkdir(exist_ok=True)
    values = {"a": [1.0, 2.0], "b": [30, 40], "c": [500, 600], "label": [0, 1]}
    for split, names in (("train", train), ("test", test)):
        table = pa.table({name: values[name] for name in names})
        if as_csv:
            pa.csv.write_csv(table, folder / f"{split}.csv")
        else:
            pq.write_table(table, folder / f"{split}.parquet")
    raw = (csv if as_csv else parquet).read(folder, silent)
    features = [name for name in train if name != "label"]
    assert raw.check()[0][0].columns == tuple(features)
    for split in raw.splits.values():
        assert split.columns["x"].tolist() == [[values[name][row] for name in features] for row in (0, 1)]
        assert split.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ({"a": [1], "label": [0]}, "test.parquet: it lacks the column b, which train has"),
        ({"a": [1], "b": [1], "c": [2], "label": [0]}, "test.parquet: it has the column c, which train lacks"),
        ({"a": [1], "B": [1], "label": [0]}, "test.parquet: it has the column B, which train lacks"),
    ],
)
def test_columns_of_one_split_alone_are_named(tmp_path: Path, test: Columns, words: str) -> None:
    folder = write(tmp_path / "p", pa.table({"a": [1], "b": [2], "label": [0]}), pa.table(test))
    with pytest.raises(BadData, match=words):
        read(folder)
    assert read(folder, features=("a",)).names == {"x": ("a",)}


@pytest.mark.parametrize(
    ("columns", "index"),
    [
        ({"__index_level_0__": [7, 3]}, ["__index_level_0__"]),
        ({"id": [7, 3]}, ["id"]),
        ({"city": ["x", "y"], "year": [1, 2]}, ["city", "year"]),
        ({"__index_level_0__": [7, 3]}, []),
        ({"Unnamed: 0": [0, 1]}, []),
        ({}, [{"kind": "range", "name": None, "start": 0, "stop": 2, "step": 1}]),
    ],
)
def test_the_index_of_a_pandas_table_is_left_out_and_said(tmp_path: Path, columns: Columns, index: list[Any]) -> None:
    table = pandas_table({"a": [1.0, 2.0], "b": [3, 4], "label": [0, 1], **columns}, index)
    raw = read(write(tmp_path / "p", table))
    assert raw.names == {"x": ("a", "b")}
    assert [name for name in columns if name not in " ".join(raw.notes)] == [] and len(raw.notes) == bool(columns)


def test_an_index_that_was_chosen_is_a_feature_or_the_label(tmp_path: Path) -> None:
    table = pandas_table({"a": [1.0, 2.0], "label": [0, 1], "id": [7, 3]}, ["id"])
    assert read(write(tmp_path / "p", table), features=("id", "a")).splits["test"].columns["x"].tolist() == [[7, 1], [3, 2]]
    assert read(write(tmp_path / "q", pandas_table({"a": [1.0, 2.0], "label": [0, 1]}, ["label"]))).names == {"x": ("a",)}


@pytest.mark.parametrize("metadata", [b"no JSON", b"[]", b'{"index_columns": 3}', b'{"index_columns": [{}, 4]}'])
def test_metadata_that_says_nothing_leaves_all_columns(tmp_path: Path, metadata: bytes) -> None:
    table = pa.table({"a": [1.0], "label": [0]}).replace_schema_metadata({"pandas": metadata, "huggingface": metadata})
    assert read(write(tmp_path / "p", table)).names == {"x": ("a",)}


TABLE = pa.table({"a": [1.0, 2.0], "b": [3, 4], "city": ["Ulm", "Bonn"], "target": ["x", "y"]})


@pytest.mark.parametrize(
    ("choices", "error", "words"),
    [
        ({}, BadData, "no column label, only a, b, city, target: --label target"),
        ({"label": "tarjet"}, BadData, "no column tarjet, only a, b, city, target: --label target"),
        ({"label": "target", "features": ("a", "bb")}, InvalidInput, "--features names 'bb', but train.parquet has a, b, city"),
        ({"label": "target", "features": ("a", "a")}, InvalidInput, "twice"),
        ({"label": "target", "features": ()}, InvalidInput, "--features names no column"),
        ({"label": "target", "features": ("a", "target")}, InvalidInput, "'target', which holds the labels"),
        ({"label": "target", "features": ("a",), "one_hot": ("city",)}, InvalidInput, "which --features leaves out"),
        ({"label": "target", "one_hot": ("town",)}, InvalidInput, "--one-hot names 'town'"),
        ({"label": "target", "one_hot": ("a",)}, BadData, "--one-hot a needs texts or whole numbers"),
        ({"label": "target"}, BadData, "the column city holds texts .*: make a 0 or 1 for each text by --one-hot city"),
    ],
)
def test_a_choice_that_is_none_is_an_error_with_the_remedy(
    tmp_path: Path, choices: Columns, error: type[DelaylineError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        read(write(tmp_path / "p", TABLE), **choices)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_columns_are_chosen_and_what_is_left_is_said(tmp_path: Path) -> None:
    raw = read(write(tmp_path / "p", TABLE), label="target", features=("b", "a"))
    assert raw.splits["train"].columns["x"].tolist() == [[3, 1], [4, 2]] and raw.check()[1] == ("x", "y")
    assert raw.notes == ["Left out, as --features names others: city."]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_a_text_column_is_one_number_for_each_text_of_train(local_store: Store, tmp_path: Path, kind: pa.DataType) -> None:
    train, test = (
        pa.table({"n": [1.0] * len(cities), "city": pa.array(cities, kind), "label": [0, 1] * (len(cities) // 2)})
        for cities in (["Ulm", "Bonn", "Ulm", "Köln"], ["Bonn", "Trier"])
    )
    write(tmp_path / "p", train, test)
    made = import_dataset(local_store, "d", str(tmp_path / "p"), "parquet", choices=Choices(one_hot=("city",)))
    raw = read(tmp_path / "p", one_hot=("city",))
    assert raw.splits["train"].columns["x"].tolist() == [[1, 0, 0, 1], [1, 1, 0, 0], [1, 0, 0, 1], [1, 0, 1, 0]]
    assert raw.splits["test"].columns["x"].tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
    assert "1 examples of test have a text in city that train has not, such as 'Trier'" in made.notes[0]
    assert made.features[0].columns == ("n", "city=Bonn", "city=Köln", "city=Ulm")
    assert made.document()["features"][0]["one_hot"] == {"city": ["Bonn", "Köln", "Ulm"]}


def test_too_many_texts_are_refused(tmp_path: Path) -> None:
    names = [f"person {number}" for number in range(1001)]
    with pytest.raises(BadData, match="--one-hot name would make 1001 numbers"):
        read(write(tmp_path / "p", pa.table({"name": names, "label": [0] * 1001})), one_hot=("name",))


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0]), pa.array([0])], names=["a", "a", "label"])
    with pytest.raises(BadData, match="'a'"):
        read(write(tmp_path / "p", table))


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        ([True, False], [1, 0]),
        ([decimal.Decimal("1.50"), decimal.Decimal("-2.25")], [1.5, -2.25]),
        (pa.array([1, 2], pa.uint8()), [1, 2]),
        (pa.array([0.5, 2.0], pa.float16()), [0.5, 2]),
    ],
)
def test_what_is_a_number_to_others_is_one(tmp_path: Path, column: Any, wanted: list[float]) -> None:
    raw = read(write(tmp_path / "p", pa.table({"a": column, "label": [0, 1]})))
    assert raw.splits["test"].columns["x"].ravel().tolist() == wanted


@pytest.mark.parametrize(
    ("values", "rounded"),
    [
        ([2**24, 2**24 + 1, 5], 1),
        ([2**62 + 1, 2**63 - 1, 0], 2),
        ([float(2**24 + 1), 0.1, 7.5], 1),
        ([2**30, 0.1, 1e20], 1),
        ([0, 1, -(2**24)], 0),
    ],
)
def test_numbers_that_float32_rounds_are_counted(tmp_path: Path, values: list[Any], rounded: int) -> None:
    raw = read(write(tmp_path / "p", pa.table({"a": values, "label": [0, 1, 0]})))
    assert sum(f"has {rounded} different whole numbers" in note for note in raw.notes) == 2 * bool(rounded)
    wanted = sum(v == int(v) and int(np.float32(v)) != int(v) for v in values if abs(v) >= 2**24)
    assert wanted == rounded


@pytest.mark.parametrize(
    ("labels", "numbers", "classes"),
    [
        ([1.0, 0.0, 2.0], [1, 0, 2], ("0", "1", "2")),
        ([True, False, True], [1, 0, 1], ("false", "true")),
        (pa.array([True, True, True]), [1, 1, 1], ("false", "true")),
        (["b", "a", "b"], [1, 0, 1], ("a", "b")),
        (pa.array(["b", "a", "b"], pa.dictionary(pa.int32(), pa.string())), [1, 0, 1], ("a", "b")),
        (pa.array([2, 0, 2], pa.dictionary(pa.int32(), pa.int64())), [2, 0, 2], ("0", "1", "2")),
        (pa.array([3, 1, 2], pa.uint8()), [3, 1, 2], ("0", "1", "2", "3")),
    ],
)
def test_labels_of_every_kind_are_classes(tmp_path: Path, labels: Any, numbers: list[int], classes: tuple[str, ...]) -> None:
    raw = read(write(tmp_path / "p", pa.table({"a": [1.0, 2.0, 3.0], "label": labels})))
    assert raw.splits["test"].labels.tolist() == numbers and raw.check()[1] == classes


def test_a_text_that_only_test_has_is_a_class_without_examples_and_said(local_store: Store, tmp_path: Path) -> None:
    write(tmp_path / "p", pa.table({"a": [1.0], "label": ["cat"]}), pa.table({"a": [1.0], "label": ["dog"]}))
    made = import_dataset(local_store, "d", str(tmp_path / "p"), "parquet")
    assert made.classes == ("cat", "dog") and "1 of 2 classes have no example in train: dog" in made.notes[0]


@pytest.mark.parametrize("column", [[datetime.datetime(2026, 1, 2)], [datetime.timedelta(1)], [datetime.time(3)]])
def test_times_are_refused_with_the_remedy(tmp_path: Path, column: list[Any]) -> None:
    with pytest.raises(BadData, match=r"the column when holds times .* without it by --features"):
        read(write(tmp_path / "p", pa.table({"when": column, "label": [0]})))


def test_empty_values_are_refused_or_let_in_as_nan(local_store: Store, tmp_path: Path) -> None:
    table = pa.table({"a": [1.0, None, 3.0], "n": pa.array([None, 2, None], pa.int64()), "label": [0, 1, 0]})
    with pytest.raises(BadData, match=r"the column a of train has 1 empty values: .*--allow-nan"):
        read(write(tmp_path / "p", table))
    raw = read(tmp_path / "p", allow_nan=True)
    np.testing.assert_array_equal(raw.splits["train"].columns["x"], np.array([[1, np.nan], [np.nan, 2], [3, np.nan]]))
    made = import_dataset(local_store, "d", str(tmp_path / "p"), "parquet", choices=Choices(allow_nan=True))
    assert "In train: a has 1 NaN; n has 2 NaN" in made.notes[0]


def test_a_column_of_lists_called_x_does_not_hide_the_numbers(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="a column of lists is called x"):
        read(write(tmp_path / "p", pa.table({"x": [[1.0, 2.0]], "a": [3.0], "label": [0]})))


def test_the_names_of_numbers_are_another_version_and_no_names_are_the_one_before(local_store: Store, tmp_path: Path) -> None:
    versions = {}
    for name in ("a", "b"):
        write(tmp_path / name, pa.table({name: [1.0, 2.0], "label": [0, 1]}))
        versions[name] = import_dataset(local_store, "d", str(tmp_path / name), "parquet").version
    np.savez(tmp_path / "d.npz", **{f"{k}_{s}": v for s in ("train", "test") for k, v in {"x": np.eye(2), "y": [0, 1]}.items()})
    unnamed = import_dataset(local_store, "d", str(tmp_path / "d.npz"), "npz")
    # As it was before features had names.
    assert unnamed.version == "88f3526688e2" and "columns" not in unnamed.document()["features"][0]
    assert len({*versions.values(), unnamed.version}) == 3


def test_named_columns_survive_the_shards(local_store: Store, tmp_path: Path) -> None:
    first = import_dataset(
        local_store, "first", str(write(tmp_path / "p", TABLE)), "parquet", choices=Choices(("b", "a"), "target")
    )
    (tmp_path / "copy").mkdir()
    for shard in first.shards:
        local_store.download(shard.key, tmp_path / "copy" / Path(shard.key).name)
    second = import_dataset(local_store, "second", str(tmp_path / "copy"), "parquet")
    assert second.features == first.features and second.features[0].columns == ("b", "a")


def hugging_face(columns: Columns, **features: Any) -> pa.Table:
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def test_a_hugging_face_folder_is_read_with_its_classes(tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    names = {"names": ["plane", "car"], "_type": "ClassLabel"}
    coarse = {"names": ["machine"], "_type": "ClassLabel"}
    for split in ("train", "validation", "test"):
        table = hugging_face(
            {"v": [0.5, 1.5], "fine": [1, 0], "coarse": [0, 0]},
            v={"dtype": "float32", "_type": "Value"}, fine=names, coarse=coarse,
        )  # fmt: skip
        pq.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    raw = read(folder, label="fine")
    assert list(raw.splits) == ["train", "test", "validation"] and raw.check()[1] == ("plane", "car")
    assert raw.names == {"x": ("v",)} and "coarse" in raw.notes[0]


def test_several_datasets_in_one_folder_are_named(tmp_path: Path) -> None:
    for name in ("en", "fr"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, pa.table({"a": [1.0], "label": [0]}))
    with pytest.raises(InvalidInput, match=r"several datasets, en, fr: give one of them, --from .*en"):
        read(tmp_path)
    (tmp_path / "fr" / "train.parquet").unlink()
    (tmp_path / "fr" / "test.parquet").unlink()
    assert read(tmp_path).names == {"x": ("a",)}


def test_tfrecords_are_out_of_scope_and_said_so(tmp_path: Path) -> None:
    (tmp_path / "mnist-train.tfrecord-00000-of-00001").write_bytes(b"x")
    with pytest.raises(InvalidInput, match="TFRecord files, which Delayline does not read"):
        read(tmp_path)


def test_folders_of_spark_are_read(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.parquet").mkdir()
        (tmp_path / f"{split}.parquet" / "_SUCCESS").write_bytes(b"")
        for part in range(2):
            table = pa.table({"a": [float(part)], "label": [part]})
            pq.write_table(table, tmp_path / f"{split}.parquet" / f"part-0000{part}.snappy.parquet")
        (tmp_path / f"{split}.parquet" / "._part-00000.snappy.parquet").write_bytes(b"no table")
    assert read(tmp_path).splits["train"].labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"a": ["1"], "b": [2], "label": [0]}, "train-1.parquet: its column a holds string, but double in train-0.parquet"),
        ({"a": [1.0], "label": [0]}, "train-1.parquet: it has no column b, which train-0.parquet has"),
        ({"a": [1.0], "b": [2], "c": [3], "label": [0]}, "train-1.parquet: it has the column c, which train-0.parquet lacks"),
        ({"b": [2], "a": [1], "label": [0]}, ""),
        ({"b": [2.5], "a": [1.0], "label": [0]}, ""),
    ],
)
def test_parts_of_a_split_name_the_first_column_that_differs(tmp_path: Path, second: Columns, words: str) -> None:
    parts = {"train-0": {"a": [1.0], "b": [2], "label": [0]}, "train-1": second, "test": {"a": [1.0], "b": [2], "label": [0]}}
    for name, columns in parts.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    if words:
        with pytest.raises(BadData, match=words):
            read(tmp_path)
    else:
        assert read(tmp_path).splits["train"].columns["x"].tolist() == [[1, 2], [second["a"][0], second["b"][0]]]
