"""Which columns of a table are the label and the features: what the user chose, else all but a pandas index and further labels."""

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.datasets.choices import Choices
from service.datasets.parquet_files import Tables
from service.datasets.raw import SAMPLE_WEIGHT
from service.datasets.written_schema import class_names, index_columns
from service.errors import BadData, InvalidInput

LABEL = "label"
_USUAL = ("labels", "target", "class", "y", "category", "species", "fine_label", "outcome")
"""What others call the column of the labels (assumed)."""


@dataclass(frozen=True)
class Chosen:
    """The column of the labels, the features in the order of the training split, and notes on what is left out."""

    label: str
    features: tuple[str, ...]
    notes: tuple[str, ...]


def choose_columns(source: Path, tables: Mapping[str, Tables], choices: Choices) -> Chosen:
    """Choose alike in all splits; raise BadData where they differ, naming the columns, InvalidInput for a choice that is none."""
    for part in tables.values():
        twice = [name for name, count in Counter(part.table.column_names).items() if count > 1]
        if twice:
            raise BadData(
                f"{part.files[0][0]}: {len(twice)} column name appears twice or more, {twice[0]!r}: rename the columns."
            )
    label = choices.label or LABEL
    for part in tables.values():
        if label not in part.table.column_names:
            raise _no_label(label, part)
    if choices.features is not None or choices.one_hot:
        _check_choices(tables["train"], label, choices)
    if choices.features is not None:
        features = tuple(name for name in choices.features if name != SAMPLE_WEIGHT)
        left = [name for name in tables["train"].table.column_names if name not in (label, SAMPLE_WEIGHT, *features)]
        notes: tuple[str, ...] = (f"Left out, as --features names others: {_some(left)}.",) if left else ()
    else:
        features, notes = _all_features(tables, label, choices)
    _check_alike(tables, features)
    return Chosen(label, features, notes)


def _no_label(label: str, part: Tables) -> BadData:
    names = part.table.column_names
    usual = [name for name in names if name.lower() in (label.lower(), *_USUAL)]
    close = usual or difflib.get_close_matches(label, names, 1)
    remedy = f"--label {close[0]}, if that holds the labels" if close else "name the one that holds the labels with --label"
    return BadData(f"{part.files[0][0]}: it has no column {label}, only {_some(names)}: {remedy}.")


def _check_choices(train: Tables, label: str, choices: Choices) -> None:
    names = train.table.column_names
    for option, given in (("--features", choices.features), ("--one-hot", choices.one_hot)):
        if given is None:
            continue
        unknown = [name for name in given if name not in names]
        if unknown:
            close = difflib.get_close_matches(unknown[0], names, 1)
            remedy = f"correct it to {close[0]}, if that is meant." if close else "name columns of these."
            raise InvalidInput(f"{option} names {unknown[0][:80]!r}, but {train.files[0][0]} has {_some(names)}: {remedy}")
        if label in given:
            raise InvalidInput(f"{option} names {label!r}, which holds the labels: take it out, or choose another --label.")
        if len(set(given)) < len(given):
            raise InvalidInput(f"{option} names a column twice: name each once.")
    if choices.features is None:
        return
    if not choices.features:
        raise InvalidInput(f"--features names no column: name some of {_some(names)}.")
    absent = [name for name in choices.one_hot if name not in choices.features]
    if absent:
        raise InvalidInput(f"--one-hot names {absent[0]!r}, which --features leaves out: add it there too.")


def _all_features(tables: Mapping[str, Tables], label: str, choices: Choices) -> tuple[tuple[str, ...], tuple[str, ...]]:
    index = {name for part in tables.values() for name in (*part.index, *index_columns(part.table.schema))}
    labels = {name for part in tables.values() for name in class_names(part.table.schema)}
    candidates = [name for name in tables["train"].table.column_names if name != label and name not in choices.one_hot]
    notes = []
    indexes = [name for name in candidates if name in index]
    if indexes:
        called = ", ".join(name or "(a column without a name)" for name in indexes)
        remedy = "--features takes it" if all(indexes) else "give it a name"
        notes.append(f"Left out as the index of a pandas table, which counts rows: {called}; {remedy} if it is a feature.")
    others = [name for name in candidates if name in labels and name not in index]
    if others:
        notes.append(
            f"Left out as further labels, as Hugging Face's metadata says: {_some(others)}; --label chooses another one."
        )
    left = {*index, *labels} - set(choices.one_hot) | {SAMPLE_WEIGHT}
    kept = tuple(name for name in tables["train"].table.column_names if name != label and name not in left)
    for part in tables.values():
        extra = [n for n in part.table.column_names if n != label and n not in left and n not in kept]
        if extra:
            raise _different(part, [], extra)
    return kept, tuple(notes)


def _check_alike(tables: Mapping[str, Tables], features: tuple[str, ...]) -> None:
    for part in tables.values():
        missing = [name for name in features if name not in part.table.column_names]
        if missing:
            raise _different(part, missing, [])


def _different(part: Tables, missing: list[str], extra: list[str]) -> BadData:
    what = (
        f"lacks the column{'s' * (len(missing) > 1)} {_some(missing)}, which train has"
        if missing
        else (f"has the column{'s' * (len(extra) > 1)} {_some(extra)}, which train lacks")
    )
    return BadData(f"{part.files[0][0]}: it {what}: give both splits the same columns, or choose those of both with --features.")


def _some(names: list[str] | tuple[str, ...]) -> str:
    shown = ", ".join(name[:60] for name in names[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown
