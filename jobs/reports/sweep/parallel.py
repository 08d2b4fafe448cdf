"""Parallel coordinates, lying: an axis for each thing that varied and one for the metric, a line for each point of a sweep."""

import itertools
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from jobs.reports.svg import INK, LINE, MUTED, PAPER, SERIES, drawing, to_svg
from jobs.reports.sweep.axes import Dimension, shown
from jobs.reports.sweep.charts import evenly
from jobs.reports.sweep.facts import SweepFacts
from jobs.reports.words import metric as metric_text
from jobs.reports.words import plural, short
from service.records.sweep_schemas import PointRow

MOST_DRAWN = 240
"""Points of the sweep, the best tenth of them all and of the others every so many (assumed: more hide each other)."""
MOST_AXES = 9
MOST_NAMED = 6
"""Values that are written at an axis."""
BEST = 0.1
"""The share of the points that is drawn strongly."""
_ROW = 56.0


def draw_parallel(facts: SweepFacts, dimensions: Sequence[Dimension]) -> Markup | None:
    """None with fewer than two points that have the metric; axes beyond MOST_AXES are left out."""
    points = [point for point in facts.points if point.mean is not None]
    axes_drawn = list(dimensions[:MOST_AXES])
    if len(points) < 2 or not axes_drawn:
        return None
    strong = max(1, min(round(BEST * len(points)), MOST_DRAWN // 4))
    drawn = [*points[:strong], *evenly(points[strong:], MOST_DRAWN - strong)]
    means = [(point.mean or 0.0) for point in points]
    with drawing(34 + _ROW * (len(axes_drawn) + 1)) as (figure, axes):
        for rank in range(len(drawn) - 1, -1, -1):
            _draw_line(axes, drawn[rank], axes_drawn, (min(means), max(means)), rank, strong)
        for place, dimension in enumerate(axes_drawn):
            _draw_axis(axes, place, dimension.label, _ticks(dimension))
        ends = [(0.0, metric_text(facts.metric, min(means))), (1.0, metric_text(facts.metric, max(means)))]
        _draw_axis(axes, len(axes_drawn), facts.metric, ends)
        axes.set_ylim(len(axes_drawn) + 0.42, -0.42)
        axes.set_xlim(-0.03, 1.03)
        axes.set_axis_off()
        best = points[0]
        values = ", ".join(f"{each.label} {shown(each.of(best))}" for each in axes_drawn)
        text = (
            f"Parallel coordinates of {plural(len(points), 'point')}; the best: {values}, "
            f"{facts.metric} {metric_text(facts.metric, best.mean)}."
        )
        return to_svg(figure, "parallel", text)


def _draw_line(
    axes: Axes, point: PointRow, dimensions: Sequence[Dimension], ends: tuple[float, float], rank: int, strong: int
) -> None:
    low, high = ends
    places = [dimension.place(dimension.of(point)) for dimension in dimensions]
    places.append(((point.mean or 0.0) - low) / (high - low) if high > low else 0.5)
    xs, ys = _bent(places)
    if rank == 0:
        axes.plot(xs, ys, color=SERIES[1], linewidth=2.6, zorder=3)
    elif rank < strong:
        axes.plot(xs, ys, color=SERIES[0], linewidth=1.5, alpha=0.8, zorder=2)
    else:
        axes.plot(xs, ys, color=MUTED, linewidth=1.0, alpha=0.3, zorder=1)


def _bent(places: Sequence[float]) -> tuple[list[float], list[float]]:
    """Through the places, upright at each axis, so that the eye follows a line through an axis where many meet."""
    down = np.linspace(0, 1, 9)
    across = 3 * down**2 - 2 * down**3
    xs, ys = [places[0]], [0.0]
    for place, (begin, end) in enumerate(itertools.pairwise(places)):
        xs += (begin + (end - begin) * across[1:]).tolist()
        ys += (place + down[1:]).tolist()
    return xs, ys


def _ticks(dimension: Dimension) -> list[tuple[float, str]]:
    """Places and words: all values of a few, the ends of many."""
    values = dimension.values
    if len(values) > MOST_NAMED:
        values = [values[0], values[-1]] if dimension.numeric else []
    found = [(dimension.place(value), shown(value, 58 // max(1, len(values)) if len(values) > 2 else 24)) for value in values]
    if dimension.numeric:
        # Of numbers that stand close to each other the first is written.
        kept: list[tuple[float, str]] = []
        for place, text in found:
            if not kept or place - kept[-1][0] > 0.02 * (len(text) + len(kept[-1][1])):
                kept.append((place, text))
        found = kept if kept[-1][0] == 1.0 or len(kept) < 2 else [*kept[:-1], found[-1]]
    return found or [(0.5, plural(len(dimension.values), "value"))]


def _draw_axis(axes: Axes, place: int, label: str, ticks: Sequence[tuple[float, str]]) -> None:
    axes.plot([0, 1], [place, place], color=LINE, linewidth=1.4, zorder=4, solid_capstyle="round")
    for x, text in ticks:
        side = "left" if x < 0.05 else "right" if x > 0.95 else "center"
        axes.plot([x], [place], marker="|", markersize=6, color=MUTED, zorder=5)
        axes.text(x, place + 0.09, text, ha=side, va="top", color=MUTED, fontsize=10, zorder=6, bbox=_PLATE)
    axes.text(0, place - 0.09, short(label, 40), ha="left", va="bottom", color=INK, fontsize=10.5, fontweight="bold", zorder=6, bbox=_PLATE)  # fmt: skip


_PLATE = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
