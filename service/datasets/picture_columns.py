"""Encoded pictures in columns of Parquet files: bytes, or Hugging Face's struct of bytes and path."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from service.datasets.parquet_files import Tables
from service.datasets.viewer import DEFAULT_GROUND, Viewer, all_grey, on_a_ground
from service.errors import BadData


@dataclass(frozen=True)
class PictureColumns:
    """The pictures by split and column, what was done for them, a sentence each, and what transparent ones lie on."""

    arrays: Mapping[str, Mapping[str, NDArray[np.uint8]]]
    notes: tuple[str, ...] = ()
    ground: str = ""


def holds_pictures(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold encoded pictures."""
    return bool(
        pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )


def read_pictures(tables: Mapping[str, Tables], ground: str | None) -> PictureColumns:
    """Decode the picture columns of all splits; those of one name have one size, and one channel where all are grey, else three.

    `ground`: what transparent ones are laid over, if that was chosen. Raise BadData with the row of what is no picture.
    """
    names = dict.fromkeys(field.name for part in tables.values() for field in part.table.schema if holds_pictures(field.type))
    arrays: dict[str, dict[str, NDArray[np.uint8]]] = {split: {} for split in tables}
    notes: list[str] = []
    grounds = set()
    for name in names:
        rows = {
            split: _Rows(part, name)
            for split, part in tables.items()
            if name in part.table.column_names and holds_pictures(part.table.schema.field(name).type)
        }
        found, viewer = on_a_ground(all(map(all_grey, rows.values())), ground, lambda viewer, rows=rows: _fill(viewer, rows))  # type: ignore[misc]
        for split, images in found.items():
            arrays[split][name] = images
        notes += [f"Column {name}: {note}" for note in viewer.notes()]
        grounds.add(viewer.ground)
    return PictureColumns(arrays, tuple(notes), grounds.pop() if len(grounds) == 1 else DEFAULT_GROUND if grounds else "")


def _fill(viewer: Viewer, rows: "Mapping[str, _Rows]") -> dict[str, NDArray[np.uint8]]:
    made: dict[str, NDArray[np.uint8]] = {}
    first = None
    for split, each in rows.items():
        images = viewer.fill(each, each.tables.packed, f"{each.tables.files[0][0]}, column {each.name}", like=first)
        if first is None and len(each):
            first = (each.where(0), images.shape[1:])
        made[split] = images
    return made


class _Rows(Sequence[tuple[str, Path | bytes]]):
    """What messages call each row of a column, and its picture's bytes, taken out of the table one at a time."""

    def __init__(self, tables: Tables, name: str) -> None:
        self.tables = tables
        self.name = name
        self._column = tables.table.column(name)

    def __len__(self) -> int:
        return len(self._column)

    def where(self, row: int) -> str:
        return f"{self.tables.place(row)} of the column {self.name}"

    @overload
    def __getitem__(self, row: int) -> tuple[str, Path | bytes]: ...
    @overload
    def __getitem__(self, row: slice) -> "Sequence[tuple[str, Path | bytes]]": ...
    def __getitem__(self, row: int | slice) -> Any:
        if isinstance(row, slice):
            return [self[each] for each in range(*row.indices(len(self)))]
        if row >= len(self):
            raise IndexError(row)
        value = self._column[row].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(data, bytes):
            return self.where(row), data
        path = value.get("path") if isinstance(value, dict) else None
        if data is None and path:
            raise BadData(
                f"{self.where(row)} holds no picture but the path {str(path)[:80]!r}: it lies elsewhere, so write the file again with "
                "the pictures in it (Hugging Face: `map(embed_table_storage, batched=True)` before it is written)."
            )
        empty = value is None or (isinstance(value, dict) and "bytes" in value and data is None)
        held = "an empty value" if empty else f"a value of the type {self._column.type}"
        raise BadData(f"{self.where(row)} holds {held}, but an encoded picture is expected: replace or remove it.")
