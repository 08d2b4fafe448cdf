"""How much each hyperparameter of a sweep mattered: the share of the metric's variance that goes with it.

A model of main effects, y = mean + sum over parameters of an effect of its level, is fitted by least squares; levels are the
values, or quantile bins of numbers with many. The share of a parameter is what the model loses without it (the type II sum of
squares of an analysis of variance), less what as many levels without meaning would explain, over the whole variance: the
epsilon squared of Kelley (An unbiased correlation ratio measure, PNAS 21, 1935, pages 554-559). What could be chance is marked
by shuffling the metric over the rows (Manly, Randomization, Bootstrap and Monte Carlo Methods in Biology, 1997). For a full
grid the shares before that correction are those of functional ANOVA (Hutter, Hoos and Leyton-Brown, ICML 2014).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.reports.sweep.axes import Dimension
from service.records.answers import TrialRow
from service.records.sweep_schemas import PointRow

FEWEST = 6
"""Observations below which no share is given (assumed: below, the chance of each is as large as itself)."""
MOST_BINS = 12
FEW_BINS = 3
ROOM = 4
"""Results for each level, down to FEW_BINS bins; half as many then have to do (assumed: fewer and the levels fit the noise)."""
SHUFFLES = 999
CHANCE = 0.05
"""A share counts as more than chance when fewer of the shuffles than this reach it."""
_SMALL = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Share:
    """Of one parameter, from 0 to 1; `chance`: how often the shuffled metric gives as much."""

    dimension: Dimension
    share: float
    chance: float
    bins: int | None
    """Into how many bins a number's values went; None where each value stood for itself."""

    @property
    def sure(self) -> bool:
        return self.chance < CHANCE


@dataclass(frozen=True)
class Importance:
    """Shares, the largest first; `rest`: what no parameter alone explains; `missing`: why there is none, in a sentence."""

    shares: list[Share]
    rest: float
    observations: int
    missing: str | None = None


def importance(
    dimensions: Sequence[Dimension], rows: Sequence[TrialRow] | Sequence[PointRow], values: Sequence[float]
) -> Importance:
    """Of `rows`, trials or points, with their metric; expressions follow from the others and are left out."""
    free = [dimension for dimension in dimensions if dimension.kind != "expression"]
    metric = np.asarray(values, np.float64)
    if not free or not len(rows):
        return _none(len(rows), "No parameter took two values." if len(rows) else "There are no results yet.")
    if np.ptp(metric) <= _SMALL * max(1.0, float(np.abs(metric).max(initial=0.0))):
        return _none(len(rows), "All results are the same: there is nothing to explain.")
    for most in range(MOST_BINS, 1, -1):
        codes = [_codes(dimension, rows, most) for dimension in free]
        freedom = sum(len(set(code.tolist())) - 1 for code, _ in codes)
        needed = max(FEWEST, 1 + freedom * (ROOM if most > FEW_BINS else ROOM // 2))
        if len(rows) >= needed:
            return _shares(free, codes, metric)
    return _none(len(rows), f"{len(rows)} results are too few to tell: it takes {needed} at least for what this sweep varied.")


def _none(observations: int, why: str) -> Importance:
    return Importance([], 1.0, observations, why)


def _codes(
    dimension: Dimension, rows: Sequence[TrialRow] | Sequence[PointRow], most: int
) -> tuple[NDArray[np.int64], int | None]:
    """The level of each row, from 0; and the number of bins where there are fewer than values."""
    taken = np.asarray([dimension.index(row) for row in rows], np.int64)
    if not dimension.numeric or len(dimension.values) <= (most if dimension.drawn else 2 * most):
        return np.unique(taken, return_inverse=True)[1], None
    edges = np.unique(np.quantile(taken, np.linspace(0, 1, most + 1)[1:-1]))
    binned = np.unique(np.searchsorted(edges, taken, side="left"), return_inverse=True)[1]
    return binned, int(binned.max()) + 1


def _shares(free: Sequence[Dimension], codes: Sequence[tuple[NDArray[np.int64], int | None]], metric: Floats) -> Importance:
    blocks = [_centred(code) for code, _ in codes]
    centred = metric - metric.mean()
    total = float(centred @ centred)
    whole = _basis(np.hstack(blocks))
    left = len(metric) - 1 - whole.shape[1]
    unexplained = max(0.0, total - float(np.sum((whole.T @ centred) ** 2)))
    each = unexplained / left
    generator = np.random.default_rng(0)
    shuffled = np.stack([generator.permutation(centred) for _ in range(SHUFFLES)], axis=1)
    shuffled_rest = (total - np.sum((whole.T @ shuffled) ** 2, axis=0)) / left
    shares = []
    for place, (dimension, (_, bins)) in enumerate(zip(free, codes, strict=True)):
        others = [block for other, block in enumerate(blocks) if other != place]
        own = _basis(_without(blocks[place], _basis(np.hstack(others)) if others else None))
        explained = float(np.sum((own.T @ centred) ** 2))
        share = max(0.0, explained - own.shape[1] * each) / total
        # As F does: what a parameter explains against what nothing explains.
        reached = np.sum((own.T @ shuffled) ** 2, axis=0) * max(each, _SMALL * total) >= explained * shuffled_rest * (1 - _SMALL)
        shares.append(Share(dimension, share, float(1 + np.sum(reached)) / (1 + SHUFFLES), bins))
    shares.sort(key=lambda share: -share.share)
    return Importance(shares, max(0.0, 1 - sum(share.share for share in shares)), len(metric))


def _centred(code: NDArray[np.int64]) -> Floats:
    """A column for each level but the first, 1 where a row has it, less the column's mean."""
    columns = (code[:, None] == np.arange(1, int(code.max()) + 1)).astype(np.float64)
    return np.asarray(columns - columns.mean(axis=0))


def _without(block: Floats, basis: Floats | None) -> Floats:
    return block if basis is None else block - basis @ (basis.T @ block)


def _basis(columns: Floats) -> Floats:
    """Orthonormal columns of the same span [n, rank]."""
    left, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    # Relative to a whole column of zeros and ones: what is left of one that others explain is rounding.
    return left[:, sizes > 1e-8 * max(1.0, len(columns) ** 0.5)]
