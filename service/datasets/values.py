"""What the values of a dataset say that its types do not: NaN and infinity, pictures that are not scaled, classes without examples."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.datasets.manifest import Feature
from service.datasets.raw import RawDataset
from service.errors import BadData

BLOCK = 16 * 1024**2
"""Bytes that are looked at a time (assumed: small beside the arrays)."""
MOST_NAMED = 5
FEWEST_PIXELS = 64
"""Bytes of a row that may be a picture: 8 x 8 (assumed)."""


def check_values(raw: RawDataset, features: tuple[Feature, ...], classes: tuple[str, ...], allow_nan: bool) -> None:
    """Raise BadData for NaN and infinity that were not allowed, counted by feature; add notes on all else to the dataset's."""
    for feature in features:
        if np.dtype(feature.dtype).kind == "f":
            _check_finite(raw, feature, allow_nan)
        raw.notes += _unscaled(raw, feature)
    raw.notes += _without_examples(raw, classes)


def _blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    rows = max(1, BLOCK // max(1, array.nbytes // max(1, len(array))))
    return (array[first : first + rows] for first in range(0, len(array), rows))


def _check_finite(raw: RawDataset, feature: Feature, allow_nan: bool) -> None:
    for split, part in raw.splits.items():
        width = len(feature.columns) or 1
        counts = np.zeros((2, width), np.int64)
        for block in _blocks(part.columns[feature.name]):
            values = block.reshape(-1, width)
            if not np.isfinite(values).all():
                counts += [np.isnan(values).sum(axis=0), np.isinf(values).sum(axis=0)]
        if not counts.any():
            continue
        names = feature.columns or (feature.name,)
        found = [(name, int(nan), int(infinite)) for name, nan, infinite in zip(names, *counts, strict=True) if nan or infinite]
        listed = "; ".join(f"{name[:60]} has {_told(nan, infinite)}" for name, nan, infinite in found[:MOST_NAMED])
        more = f"; {len(found) - MOST_NAMED} more columns have some" if len(found) > MOST_NAMED else ""
        if not allow_nan:
            raise BadData(
                f"{part.origin}: {listed}{more}: a network that sees one learns nothing; fill or drop them, or let them in by --allow-nan."
            )
        raw.notes.append(f"In {split}: {listed}{more}; let in by --allow-nan.")


def _told(nan: int, infinite: int) -> str:
    return " and ".join(f"{count} {what}" for count, what in ((nan, "NaN"), (infinite, "infinite values")) if count)


def _unscaled(raw: RawDataset, feature: Feature) -> list[str]:
    """A note where values from 0 to 255 in the shape of pictures reach a network as they are."""
    pixels = len(feature.shape) in (2, 3) or (
        len(feature.shape) == 1 and feature.shape[0] >= FEWEST_PIXELS and feature.dtype == "uint8"
    )
    if feature.scale != 1.0 or not pixels or feature.columns:
        return []
    highest = 0
    for block in _blocks(raw.splits["train"].columns[feature.name]):
        if not (block == np.floor(block)).all() or block.min() < 0 or block.max() > 255:
            return []
        highest = max(highest, int(block.max()))
    # A few levels are more likely to be counts or codes than shades (assumed).
    if highest < 128:
        return []
    note = (
        f"{feature.name} holds whole numbers from 0 to {highest}, as unscaled pictures do, and networks get them as they are: store pictures "
        "as uint8 of the shape (examples, height, width[, channels]), which become 0 to 1, or divide by 255."
    )
    return [note]


def _without_examples(raw: RawDataset, classes: tuple[str, ...]) -> list[str]:
    counts = np.bincount(raw.splits["train"].labels.astype(np.int64), minlength=len(classes))
    absent = [name for name, count in zip(classes, counts, strict=True) if not count]
    if not absent:
        return []
    named = ", ".join(name[:60] for name in absent[:MOST_NAMED]) + (" and others" if len(absent) > MOST_NAMED else "")
    return [
        f"{len(absent)} of {len(classes)} classes have no example in train: {named}; labels count from 0, and networks have an output for each class."
    ]
