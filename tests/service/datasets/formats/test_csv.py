"""CSV files as spreadsheets, pandas and others write them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.datasets.choices import Choices
from service.datasets.formats.csv import read
from service.datasets.raw import RawDataset

Refused = Callable[..., str]
PLAIN = b"a,b,label\n1,2.5,cat\n3,4.5,dog\n"


def silent(_: int) -> None:
    return


def write(folder: Path, train: bytes, test: bytes | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "train.csv").write_bytes(train)
    (folder / "test.csv").write_bytes(train if test is None else test)
    return folder


def taken(raw: RawDataset) -> tuple[object, ...]:
    part = raw.splits["train"]
    return raw.names["x"], part.columns["x"].tolist(), part.labels.tolist(), raw.classes


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        b"\xef\xbb\xbf" + PLAIN,
        PLAIN.replace(b",", b";"),
        PLAIN.replace(b",", b"\t"),
        PLAIN.replace(b",", b"|"),
        PLAIN.replace(b"\n", b"\r\n"),
        PLAIN.rstrip(b"\n"),
        b'"a","b","label"\n"1","2.5","cat"\n"3","4.5","dog"\n',
        b" a, b, label\n1,2.5,cat\n3,4.5,dog\n",
        b"a;b;label\n1;2,5;cat\n3;4,5;dog\n",
        b",a,b,label\n0,1,2.5,cat\n1,3,4.5,dog\n",
        b"Unnamed: 0,a,b,label\n0,1,2.5,cat\n1,3,4.5,dog\n",
    ],
)
def test_the_same_table_however_it_is_written(tmp_path: Path, content: bytes) -> None:
    assert taken(read(write(tmp_path / "c", content), silent)) == (("a", "b"), [[1, 2.5], [3, 4.5]], [0, 1], ("cat", "dog"))


def test_a_column_that_is_left_out_for_want_of_a_name_is_to_be_given_one(tmp_path: Path) -> None:
    def notes(first: bytes) -> str:
        return " ".join(read(write(tmp_path / "c", first + b",a,label\n0,1,0\n1,3,1\n"), silent).notes)

    assert "give it a name" in notes(b"") and "--features" not in notes(b"")
    assert "Unnamed: 0; --features takes it" in notes(b"Unnamed: 0")


def test_texts_in_quotes_may_hold_anything(tmp_path: Path) -> None:
    raw = read(write(tmp_path / "c", b'a,label\n1,"Bonn, am ""Rhein"""\n2,"two\nlines"\n'), silent)
    assert raw.classes == ('Bonn, am "Rhein"', "two\nlines")


def test_the_type_of_a_column_is_that_of_all_its_values(tmp_path: Path) -> None:
    # Arrow itself looks at the first megabyte.
    rows = b"1,0\n" * 400_000
    raw = read(write(tmp_path / "c", b"a,label\n" + rows + b"2.5,1\n", b"a,label\n1,0\n"), silent)
    assert raw.splits["train"].columns["x"][-1, 0] == 2.5 and raw.splits["test"].columns["x"][0, 0] == 1


@pytest.mark.parametrize("empty", [b"", b"NA", b"NaN", b"null"])
def test_missing_values_are_counted(tmp_path: Path, refused: Refused, empty: bytes) -> None:
    folder = write(tmp_path / "c", b"a,b,label\n1,2,0\n" + empty + b",3,1\n")
    refused(folder, "csv", 3, "the column a of train has 1 empty values", "--allow-nan")
    x = read(folder, silent, Choices(allow_nan=True)).splits["train"].columns["x"]
    np.testing.assert_array_equal(x, np.array([[1, 2], [np.nan, 3]]))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "train.csv: it is empty"),
        (b"\n\n", "train.csv: it is empty"),
        (b"1,2,0\n3,4,1\n", "its first line has the number 1 where the name of a column is expected"),
        (b"5.1,3.5,Iris-setosa\n4.9,3.0,Iris-setosa\n", "its first line has the number 5.1"),
        (b"a,label\n1,0\n2\n", "train.csv: it is no CSV file"),
        (b"a,label\n\xe9,0\n", "not UTF-8"),
        ("a,label\n1,0\n".encode("utf-16"), "UTF-16"),
        (b"a,label\nred,0\nblue,1\n", "--one-hot a"),
        (b"a,a,label\n1,2,0\n", "'a'"),
        (b"a,target\n1,0\n", "--label target"),
        (b"a,label\n1,\n2,1\n", "give every example a label"),
        (b"a,label\n", "empty"),
    ],
)
def test_what_is_no_table_is_an_error(tmp_path: Path, refused: Refused, content: bytes, words: str) -> None:
    refused(write(tmp_path / "c", content), "csv", 3, words)


def test_one_file_is_not_divided(tmp_path: Path, refused: Refused) -> None:
    refused(write(tmp_path / "c", PLAIN) / "train.csv", "csv", 2, "divide its rows into train.csv and test.csv")
