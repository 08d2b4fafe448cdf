"""What a sweep varied: its base and the keys of its space, each as a dimension with the values that its trials took."""

import json
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jobs.reports.words import short
from service.records.answers import TrialRow
from service.records.sweep_schemas import PointRow
from service.specs.sweep import SweepSpec

BASE = "base"
DECADES = 2.0
"""From so many powers of ten on listed numbers have a logarithmic axis."""


@dataclass(frozen=True)
class Dimension:
    """One thing that varied. `key` is None for the base; `values`: those taken, numbers in order, all else as they came."""

    key: str | None
    label: str
    kind: str
    """`base`, or as in the space: `grid`, `choice`, `uniform`, `loguniform`, `integers`, `expression`."""
    numeric: bool
    log: bool
    values: list[Any]

    def of(self, row: TrialRow | PointRow) -> Any:
        """The value of a trial or a point; None where it has none."""
        return row.base if self.key is None else row.params.get(self.key)

    def index(self, row: TrialRow | PointRow) -> int:
        """Which of `values` a trial or a point has."""
        return self._places[hashable(self.of(row))]

    @cached_property
    def _places(self) -> dict[Hashable, int]:
        return {hashable(value): index for index, value in enumerate(self.values)}

    @property
    def drawn(self) -> bool:
        """Whether it has many values of which hardly two are the same, as they come from a range."""
        return self.kind in ("uniform", "loguniform", "integers", "expression") and len(self.values) > MOST_LEVELS

    def place(self, value: Any) -> float:
        """Where on an axis from 0 to 1 a value stands; listed values evenly, numbers by size or by their logarithm."""
        if not self.numeric:
            return self._places[hashable(value)] / max(1, len(self.values) - 1)
        scale = math.log if self.log else float
        low, high = scale(self.values[0]), scale(self.values[-1])
        return (scale(value) - low) / (high - low) if high > low else 0.5


MOST_LEVELS = 12
"""Different values up to which each stands for itself in charts (assumed: a row of ticks)."""


def dimensions(sweep: SweepSpec, rows: Sequence[TrialRow]) -> list[Dimension]:
    """Whatever took two values at least, the base first, then in the space's order."""
    names = labels(list(sweep.space))
    found = [_dimension(None, BASE, BASE, [row.base for row in rows])]
    for key, parameter in sweep.space.items():
        found.append(_dimension(key, names[key], parameter.kind, [row.params.get(key) for row in rows]))
    return [dimension for dimension in found if len(dimension.values) > 1]


def _dimension(key: str | None, label: str, kind: str, taken: list[Any]) -> Dimension:
    values = list({hashable(value): value for value in taken}.values())
    numeric = bool(values) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if not numeric:
        return Dimension(key, label, kind, False, False, values)
    values = sorted(values)
    wide = values[0] > 0 and math.log10(values[-1]) - math.log10(values[0]) >= DECADES
    # What was drawn evenly spreads over decades by its smallest values alone.
    log = kind == "loguniform" or (wide and kind not in ("uniform", "integers"))
    return Dimension(key, label, kind, True, log, values)


def labels(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key; all of it where two would be the same, or the last part says nothing."""
    lasts = [key.rpartition(".")[2] for key in keys]
    return {
        key: last if lasts.count(last) == 1 and last not in (BASE, "name") else key for key, last in zip(keys, lasts, strict=True)
    }


def hashable(value: Any) -> Hashable:
    """A key that equal values share; lists and mappings as their JSON. True is not 1."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def shown(value: Any, most: int = 40) -> str:
    """A value as people read it: `0.003`, `1.5e-05`, `relu`, `{"name": "cosine"}`."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return short(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), most)
