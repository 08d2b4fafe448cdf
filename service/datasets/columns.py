"""Tables of columns as a dataset: single numbers together are `x`, lists and pictures features of their own, texts one-hot."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from service.datasets.choices import Choices
from service.datasets.chosen_columns import choose_columns
from service.datasets.label_columns import is_text, read_labels
from service.datasets.manifest import STORED_TYPES, OneHot
from service.datasets.parquet_files import Tables, dense
from service.datasets.picture_columns import PictureColumns, holds_pictures, read_pictures
from service.datasets.raw import SAMPLE_WEIGHT, RawDataset, RawSplit
from service.datasets.written_schema import written_array
from service.errors import BadData

TOGETHER = "x"
"""The feature that single numbers make up."""
MOST_TEXTS = 1000
"""Different texts that a column may have to become one-hot (assumed: of more, as names and addresses are, nothing general is learned)."""
EXACT = 2**24
"""Up to here float32 holds every whole number (IEEE 754)."""


@dataclass
class _Source:
    """What all columns are read with."""

    path: Path
    tables: Mapping[str, Tables]
    choices: Choices
    notes: list[str] = field(default_factory=list)

    def column(self, split: str, name: str) -> pa.ChunkedArray:
        return self.tables[split].table.column(name)

    def kinds(self, name: str) -> list[pa.DataType]:
        return [part.table.schema.field(name).type for part in self.tables.values()]


@dataclass
class _Features:
    """What the columns make, by split; single numbers wait in `stacked` until all are read."""

    source: _Source
    arrays: dict[str, dict[str, NDArray[Any]]]
    stacked: dict[str, list[NDArray[np.float32]]]
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Of the numbers that a feature is made of."""
    numbers: list[str] = field(default_factory=list)
    one_hot: list[OneHot] = field(default_factory=list)

    def add_numbers(self, coded: Mapping[str, NDArray[np.float32]], names: Iterable[str]) -> None:
        """Add single numbers [rows, numbers] by split."""
        self.numbers += names
        for split, values in coded.items():
            self.stacked[split].append(values)

    def add_own(self, name: str, found: Mapping[str, NDArray[Any]]) -> None:
        """Add a column that is a feature by itself, by split."""
        for split, array in found.items():
            self.arrays[split][name] = array

    def put_together(self) -> None:
        """Make the single numbers one feature; raise BadData where its name, or that of a number in it, is another's too."""
        if not self.numbers:
            return
        if TOGETHER in self.names or TOGETHER in self.arrays["train"]:
            raise BadData(
                f"{self.source.path}: a column of lists is called {TOGETHER}, as the single numbers together are: rename the column."
            )
        if len(set(self.numbers)) < len(self.numbers):
            raise BadData(
                f"{self.source.path}: two numbers of {TOGETHER} have one name, for a column is called as a text of another: rename it."
            )
        self.add_own(TOGETHER, {split: np.concatenate(columns, axis=1) for split, columns in self.stacked.items()})
        self.names[TOGETHER] = tuple(self.numbers)


def assemble(path: Path, tables: Mapping[str, Tables], choices: Choices) -> RawDataset:
    """The dataset of the columns that the user chose, in the order of the training split; `path` is what messages call it.

    Raise BadData for columns that cannot be features, with the remedy, and where splits differ.
    """
    chosen = choose_columns(path, tables, choices)
    for split, part in tables.items():
        if not len(part.table):
            raise BadData(f"{path}: the {split} split is empty: give at least one example.")
    labels = read_labels(path, tables, chosen.label)
    source = _Source(path, tables, choices, [*chosen.notes, *labels.notes])
    made = _Features(source, {split: {} for split in tables}, {split: [] for split in tables})
    pictures = _pictures(source, chosen.features)
    for name in chosen.features:
        _add_column(made, pictures, name)
    made.put_together()
    for split, weights in _weights(source).items():
        made.arrays[split][SAMPLE_WEIGHT] = weights
    splits = {split: RawSplit(found, labels.numbers[split], f"{path}, {split}") for split, found in made.arrays.items()}
    return RawDataset(
        splits, labels.names, notes=source.notes, ground=pictures.ground, names=made.names, one_hot=tuple(made.one_hot)
    )


def _add_column(made: _Features, pictures: PictureColumns, name: str) -> None:
    """Read a column by what it holds: texts for one-hot, single numbers, pictures, or a feature by itself."""
    source = made.source
    _check_full(source, name)
    if name in source.choices.one_hot:
        coded, texts = _one_hot(source, name)
        made.add_numbers(coded, (f"{name}={text}" for text in texts))
        made.one_hot.append((name, texts))
    elif all(map(is_number, source.kinds(name))):
        made.add_numbers(_numbers(source, name), [name])
    elif name in pictures.arrays["train"]:
        made.add_own(name, {split: images[name] for split, images in pictures.arrays.items()})
    else:
        made.add_own(name, _own_feature(source, name))
        written = written_array(source.tables["train"].table.schema.field(name))
        made.names |= {name: written[2]} if written and written[2] else {}


def _weights(source: _Source) -> dict[str, NDArray[np.float32]]:
    """The weights of the examples, float32 [rows], of the splits that have some."""
    found = {}
    for split, part in source.tables.items():
        if SAMPLE_WEIGHT in part.table.column_names:
            column = part.table.column(SAMPLE_WEIGHT)
            if column.null_count or not is_number(column.type):
                raise BadData(
                    f"{source.path}: the column {SAMPLE_WEIGHT} of {split} must hold a number for each example, but holds {column.type} "
                    f"with {column.null_count} empty values: correct it, or rename the column if it holds no weights."
                )
            found[split] = np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy()).astype(np.float32)
    return found


def _pictures(source: _Source, features: tuple[str, ...]) -> PictureColumns:
    """The pictures of all columns that hold some in every split."""
    names = [name for name in features if name not in source.choices.one_hot and all(map(holds_pictures, source.kinds(name)))]
    only = {split: replace(part, table=part.table.select(names)) for split, part in source.tables.items()}
    found = read_pictures(only, source.choices.ground)
    source.notes.extend(found.notes)
    return found


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type holds single numbers, or truth values, which are 0 and 1."""
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def _check_full(source: _Source, name: str) -> None:
    for split in source.tables:
        column = source.column(split, name)
        if column.null_count and not (source.choices.allow_nan and is_number(column.type)):
            nan = " or take them as NaN by --allow-nan" if is_number(column.type) else " or leave it out by --features"
            raise BadData(
                f"{source.path}: the column {name} of {split} has {column.null_count} empty values: fill or drop them,{nan}."
            )


def _numbers(source: _Source, name: str) -> dict[str, NDArray[np.float32]]:
    """A column of single numbers as float32 [rows, 1] by split; empty values are NaN."""
    found = {}
    for split in source.tables:
        column = source.column(split, name)
        if column.null_count or not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            column = pc.cast(column, pa.float64(), safe=False)
        values = np.asarray(column.to_numpy())
        with np.errstate(over="ignore"):
            single = values.astype(np.float32)
        large = values[(np.abs(single) >= EXACT) & np.isfinite(single)]
        whole = large if large.dtype.kind in "iu" else large[large == np.floor(large)]
        # As Python's numbers: int64 does not hold 2**63, which its largest values become, nor float64 all of int64.
        rounded = sum(int(one) != int(np.float32(one)) for one in np.unique(whole).tolist())
        if rounded:
            source.notes.append(
                f"{name} of {split} has {rounded} different whole numbers beyond {EXACT} that float32 rounds: "
                "subtract or divide before if the last digits count."
            )
        beyond = int(np.count_nonzero(np.isinf(single) & np.isfinite(values)))
        if beyond:
            raise BadData(
                f"{source.path}: the column {name} of {split} has {beyond} values beyond float32's range: scale the column."
            )
        found[split] = single[:, np.newaxis]
    return found


def _one_hot(source: _Source, name: str) -> tuple[dict[str, NDArray[np.float32]], tuple[str, ...]]:
    """A column as a 0 or 1 for each text of the training split, sorted: float32 [rows, texts] by split, and the texts."""
    values = {split: _texts(source, split, name) for split in source.tables}
    texts = tuple(sorted(set(values["train"])))
    if len(texts) > MOST_TEXTS:
        raise BadData(
            f"{source.path}: --one-hot {name} would make {len(texts)} numbers, one for each text, and may make {MOST_TEXTS}: "
            "leave the column out by --features, or group its texts."
        )
    number = {text: index for index, text in enumerate(texts)}
    found = {}
    for split, each in values.items():
        places = np.array([number.get(text, -1) for text in each], np.int64)
        found[split] = (places[:, np.newaxis] == np.arange(len(texts))).astype(np.float32)
        unknown = np.flatnonzero(places < 0)
        if len(unknown):
            source.notes.append(
                f"{len(unknown)} examples of {split} have a text in {name} that train has not, such as {each[unknown[0]][:60]!r}: zeros for all."
            )
    source.notes.append(f"{name} is one-hot: {len(texts)} numbers, each 0 or 1.")
    return found, texts


def _texts(source: _Source, split: str, name: str) -> list[str]:
    column = source.column(split, name)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise BadData(f"{source.path}: --one-hot {name} needs texts or whole numbers, but the column of {split} holds {kind}.")
    return [str(value) for value in column.to_pylist()]


def _own_feature(source: _Source, name: str) -> dict[str, NDArray[Any]]:
    """A column that is a feature by itself: lists, or arrays that Delayline wrote."""
    return {
        split: _column(f"{source.path}, {split}", part.table.schema.field(name), part.table.column(name), source.kinds(name))
        for split, part in source.tables.items()
    }


def _column(origin: str, described: pa.Field, column: pa.ChunkedArray, kinds: list[pa.DataType]) -> NDArray[Any]:
    written, kind, name = written_array(described), described.type, described.name
    if pa.types.is_fixed_size_binary(kind) and written:
        dtype, shape, _ = written
        if np.dtype(dtype).itemsize * math.prod(shape) != kind.byte_width:
            raise BadData(f"{origin}: the column {name} has {kind.byte_width} bytes a row, not {dtype} of the shape {shape}.")
        return np.frombuffer(b"".join(column.to_pylist()), dtype).reshape(len(column), *shape)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _lists(origin, name, column, written[1] if written else None)
    others = sorted({str(each) for each in kinds})
    held = f"{kind} here, and {' and '.join(others)} in all splits" if len(others) > 1 else str(kind)
    if pa.types.is_dictionary(kind) or is_text(kind):
        raise BadData(
            f"{origin}: the column {name} holds texts ({held}), and features are numbers: make a 0 or 1 for each text by --one-hot {name}, "
            "or choose columns without it by --features."
        )
    if pa.types.is_temporal(kind):
        raise BadData(
            f"{origin}: the column {name} holds times ({held}), and features are numbers: write what counts of them as numbers, such as the "
            "hour, or choose columns without it by --features."
        )
    raise BadData(
        f"{origin}: the column {name} has the type {held}, but numbers, lists of numbers or pictures are expected: "
        "choose columns without it by --features."
    )


def _lists(origin: str, name: str, column: pa.ChunkedArray, shape: tuple[int, ...] | None) -> NDArray[Any]:
    try:
        parts = [dense(chunk) for chunk in column.chunks]
        array = np.concatenate(parts) if len(parts) != 1 else parts[0]
    except pa.ArrowTypeError as error:
        raise BadData(
            f"{origin}: the lists of the column {name} hold {error}: values must be one of {', '.join(STORED_TYPES)}."
        ) from error
    except ValueError as error:
        raise BadData(
            f"{origin}: the lists of the column {name} differ in length or hold no numbers; make them one length."
        ) from error
    if not pa.types.is_fixed_size_list(column.type):
        # As Python's numbers, which these were, become arrays.
        array = array.astype({"i": np.int64, "u": np.int64, "f": np.float32}.get(array.dtype.kind, array.dtype), copy=False)
    if shape and math.prod(shape) == math.prod(array.shape[1:]):
        return array.reshape(len(column), *shape)
    return array.astype(np.float32) if array.dtype == np.float64 else array
