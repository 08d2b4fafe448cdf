"""CSV files with a line of column names: `train.csv` and `test.csv`, `train-*.csv`, or folders `train` and `test` of them."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc

from service.datasets.choices import NONE, Choices
from service.datasets.columns import assemble
from service.datasets.parquet_files import joined
from service.datasets.raw import RawDataset
from service.datasets.split_files import find_splits
from service.errors import BadData

takes = ("features", "label", "one_hot")

DELIMITERS = ",;\t|"
MOST_BYTES = 2**31 - 1
"""That Arrow takes as one block."""
_LOOKED_AT = 64 * 1024
_NUMBER = re.compile(r"\s*[-+]?[0-9]+([.,][0-9]+)?([eE][-+]?[0-9]+)?\s*")
_DECIMAL_COMMA, _DECIMAL_POINT = (re.compile(rf"[0-9]{mark}[0-9]") for mark in (",", r"\."))
_NO_VALUE = ["", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "#N/A", "?"]


def read(source: Path, progress: Callable[[int], None], choices: Choices = NONE) -> RawDataset:
    """Read the splits: UTF-8, separated by comma, semicolon, tab or bar, quoted or not; types as Arrow finds them, over a whole file.

    An empty value is none, as are NA, NaN, null and the like. Single numbers together are `x`.
    """
    parts = {split: joined(split, files, read_table, progress) for split, files in find_splits(source, (".csv", ".tsv")).items()}
    return assemble(source, parts, choices)


def read_table(path: Path) -> pa.Table:
    """The rows of a file, texts unchanged, numbers and truth values as such; raise BadData with what is wrong."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise BadData(
            f"{path.name}: it has {size} bytes, and a CSV file may have {MOST_BYTES}: write it in parts, or as Parquet."
        )
    with path.open("rb") as file:
        head = file.read(_LOOKED_AT)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadData(f"{path.name}: it is UTF-16 text: save it as UTF-8.")
    text = head.decode("utf-8-sig", errors="replace")
    delimiter = _delimiter(path, text)
    rest = text.partition("\n")[2]
    comma = delimiter == ";" and bool(_DECIMAL_COMMA.search(rest)) and not _DECIMAL_POINT.search(rest)
    try:
        table = pc.read_csv(
            path,
            # One block: the type of a column is that of all its values.
            read_options=pc.ReadOptions(block_size=max(size, _LOOKED_AT)),
            parse_options=pc.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pc.ConvertOptions(
                null_values=_NO_VALUE,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                decimal_point="," if comma else ".",
            ),
        )
        if any(map(pa.types.is_binary, table.schema.types)):
            raise BadData(f"{path.name}: it has a text that is not UTF-8: save it as UTF-8.")
        return table.rename_columns([name.strip() for name in table.column_names])
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise BadData(f"{path.name}: it is no CSV file: {reason}.") from error


def _delimiter(path: Path, text: str) -> str:
    """What separates the values; raise BadData where the first line holds values and no names."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    if not first:
        raise BadData(f"{path.name}: it is empty: a line of column names and a line for each example are expected.")
    delimiter = max(DELIMITERS, key=lambda each: len(next(csv.reader([first], delimiter=each))))
    names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter))]
    numbers = [name for name in names if _NUMBER.fullmatch(name)]
    if numbers:
        raise BadData(
            f"{path.name}: its first line has the number {numbers[0]} where the name of a column is expected: begin with a line of names."
        )
    return delimiter
