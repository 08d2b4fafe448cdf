"""Parquet files: `train.parquet` and `test.parquet`, `train-*.parquet`, or folders `train` and `test` of them, or Hugging Face's `data/`."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from service.datasets.choices import NONE, Choices
from service.datasets.columns import assemble
from service.datasets.parquet_files import joined, read_file
from service.datasets.raw import RawDataset
from service.datasets.split_files import find_splits
from service.errors import BadData

takes = ("features", "label", "one_hot", "ground")


def read(source: Path, progress: Callable[[int], None], choices: Choices = NONE) -> RawDataset:
    """Read the splits. Lists of equal length become arrays, encoded pictures become images, single numbers together `x`."""
    try:
        parts = {split: joined(split, files, read_table, progress) for split, files in find_splits(source, (".parquet",)).items()}
        return assemble(source, parts, choices)
    except UnicodeDecodeError as error:
        raise BadData(f"{source}: it has a text that is not UTF-8 ({_first_line(error)}): write the files again.") from error


def read_table(path: Path) -> pa.Table:
    """The rows of a file; raise BadData for a damaged one."""
    try:
        return read_file(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadData(
            f"{path.name}: it is no intact Parquet file of {path.stat().st_size} bytes: {_first_line(error)}."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
