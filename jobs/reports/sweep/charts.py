"""A sweep's metric against what was swept: a line for each network, the mean of its trials, their spread, the trials."""

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from jobs.reports.curves import LOG_FROM
from jobs.reports.svg import INK, MUTED, SERIES, drawing, to_svg
from jobs.reports.sweep.axes import BASE, MOST_LEVELS, Dimension, shown
from jobs.reports.sweep.facts import SweepFacts
from jobs.reports.words import metric as metric_text
from jobs.reports.words import plural, short
from service.records.answers import TrialRow

MOST_LINES = 8
"""The colours."""
MOST_DOTS = 400
"""Trials drawn in one chart, evenly taken (assumed: more hide each other)."""
BINS = 8
"""For numbers that were drawn: the mean is of the trials of as many bins, each with as many of them."""
LETTER = 0.021
"""The part of the axis that a digit takes (measured)."""
MOST_WHISKERS = 6
"""Means of a line up to which each has a whisker; more have a band."""
_HEIGHT = 236.0
_LEGEND_ROW = 16.5
_CATEGORY_ROW = 24.0

Dots = list[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """One line: `means` of (x, mean, spread or None), and its trials as dots."""

    label: str
    colour: int
    means: list[tuple[float, float, float | None]]
    dots: Dots


@dataclass(frozen=True)
class Split:
    """What tells the lines apart; `labels`: by the places of their values."""

    dimensions: list[Dimension]
    labels: dict[tuple[int, ...], str]

    def of(self, row: TrialRow) -> tuple[int, ...]:
        """To which line a trial belongs."""
        return tuple(dimension.index(row) for dimension in self.dimensions)


def charts(facts: SweepFacts, dimensions: Sequence[Dimension], most: int) -> list[Markup]:
    """One for each number that varied, that with the most values first; without any, one for each list of values."""
    rows = [(row, value) for row in facts.trials if (value := facts.value(row)) is not None]
    chosen = charted(dimensions)[:most]
    if not rows:
        return []
    if not any(each.numeric for each in chosen):
        return [_draw_categories(facts, each, rows) for each in chosen]
    split = split_of(dimensions)
    return [_draw_number(facts, number, split, rows) for number in chosen]


def charted(dimensions: Sequence[Dimension]) -> list[Dimension]:
    """What has a chart of its own: the numbers, that with the most values first; without any, all."""
    free = [each for each in dimensions if each.kind != "expression"]
    numbers = [each for each in free if each.numeric] or [each for each in dimensions if each.numeric]
    return sorted(numbers, key=lambda each: -len(each.values)) or list(dimensions)


def split_of(dimensions: Sequence[Dimension]) -> Split:
    """By the base and all that is no number, if that gives few enough lines; else by the first of them that does."""
    kinds = [each for each in dimensions if not each.numeric]
    if kinds and math.prod(len(each.values) for each in kinds) > MOST_LINES:
        kinds = [each for each in kinds if len(each.values) <= MOST_LINES][:1]
    places = itertools.product(*(range(len(kind.values)) for kind in kinds))
    texts = itertools.product(*([shown(value, 24) for value in kind.values] for kind in kinds))
    return Split(kinds, {place: ", ".join(text) for place, text in zip(places, texts, strict=True)})


def series(facts: SweepFacts, number: Dimension, split: Split, rows: Sequence[tuple[TrialRow, float]]) -> list[Series]:
    """The lines of a chart in the order of the split; those without trials are left out."""
    found = []
    own: dict[tuple[int, ...], Dots] = {}
    for row, value in rows:
        own.setdefault(split.of(row), []).append((float(number.of(row)), value))
    for colour, (place, label) in enumerate(split.labels.items()):
        if dots := sorted(own.get(place, [])):
            groups = _bins(dots) if number.drawn else _levels(dots)
            found.append(Series(label, colour, [_mean(number, group) for group in groups], dots))
    return found


def _levels(dots: Dots) -> list[Dots]:
    groups: dict[float, Dots] = {}
    for x, y in dots:
        groups.setdefault(x, []).append((x, y))
    return list(groups.values())


def _bins(dots: Dots) -> list[Dots]:
    count = max(1, min(BINS, len(dots) // 3))
    return [dots[len(dots) * index // count : len(dots) * (index + 1) // count] for index in range(count)]


def _mean(number: Dimension, group: Dots) -> tuple[float, float, float | None]:
    xs, ys = [x for x, _ in group], [y for _, y in group]
    middle = xs[0]
    if number.drawn:
        middle = math.exp(statistics.fmean(map(math.log, xs))) if number.log else statistics.fmean(xs)
    return middle, statistics.fmean(ys), statistics.stdev(ys) if len(ys) > 1 else None


def _draw_number(facts: SweepFacts, number: Dimension, split: Split, rows: Sequence[tuple[TrialRow, float]]) -> Markup:
    lines = series(facts, number, split, rows)
    guesses = [] if facts.chance is None else [facts.chance]
    legend = -(-(len(lines) + len(guesses)) // 2) if len(lines) > 1 else 0
    with drawing(_HEIGHT + _LEGEND_ROW * legend) as (figure, axes):
        for line in lines:
            _draw_series(axes, line, MOST_DOTS // len(lines))
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_title(_title(facts, number), loc="left", fontweight="bold", pad=9 + _LEGEND_ROW * legend)
        axes.set_xlabel(short(number.key or BASE, 50))
        _scale_x(axes, number)
        for chance in guesses:
            axes.axhline(chance, color=MUTED, linestyle="--", linewidth=1, label="chance")
        scale_metric(axes, facts.metric, [*(value for _, value in rows), *_ends(facts, lines), *guesses])
        if legend:
            axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderaxespad=0.1, columnspacing=1.4, handlelength=1.8)  # fmt: skip
        return to_svg(figure, f"swept-{_place(facts, number)}", _described(facts, number, lines))


def _draw_series(axes: Axes, line: Series, most: int) -> None:
    colour = SERIES[line.colour % len(SERIES)]
    dots = evenly(line.dots, most)
    axes.plot([x for x, _ in dots], [y for _, y in dots], "o", markersize=3.4, color=colour, alpha=0.45, markeredgewidth=0)
    xs, means = [x for x, _, _ in line.means], [mean for _, mean, _ in line.means]
    axes.plot(xs, means, color=colour, label=line.label or "mean", marker="o", markersize=4.5)
    spread = [each for each in line.means if each[2] is not None]
    if len(line.means) > MOST_WHISKERS:
        low, high = ([mean + sign * (width or 0.0) for _, mean, width in spread] for sign in (-1, 1))
        axes.fill_between([x for x, _, _ in spread], low, high, color=colour, alpha=0.16, linewidth=0)
    elif spread:
        middles, heights, widths = zip(*spread, strict=True)
        axes.errorbar(middles, heights, yerr=widths, fmt="none", color=colour, ecolor=colour, elinewidth=1.2, capsize=3)


def evenly(values: Sequence[Any], most: int) -> Sequence[Any]:
    """At most so many, the first and the last among them."""
    if len(values) <= most:
        return values
    return [values[round(index * (len(values) - 1) / (most - 1))] for index in range(most)]


def _scale_x(axes: Axes, number: Dimension) -> None:
    if number.log:
        axes.set_xscale("log")
    if _have_room(number):
        axes.xaxis.set_major_locator(FixedLocator([float(value) for value in number.values]))
        axes.xaxis.set_minor_locator(NullLocator())
    elif number.log:
        axes.xaxis.set_major_locator(LogLocator(numticks=7))
    else:
        whole = all(isinstance(value, int) for value in number.values)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=whole))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def _have_room(number: Dimension) -> bool:
    """Whether all values can be written at the axis."""
    texts = [(number.place(value), len(shown(value))) for value in number.values[: MOST_LEVELS + 1]]
    return len(number.values) <= MOST_LEVELS and all(
        place - before >= LETTER * (length + other + 2) / 2 for (before, other), (place, length) in itertools.pairwise(texts)
    )


def scale_metric(axes: Axes, name: str, values: Sequence[float], *, upright: bool = True) -> None:
    """The metric's axis: a share in percent; a logarithm where results are positive and far apart."""
    axis = axes.yaxis if upright else axes.xaxis
    if min(values) > 0 and max(values) / min(values) >= LOG_FROM and not name.endswith("accuracy"):
        (axes.set_yscale if upright else axes.set_xscale)("log")
        axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    else:
        axis.set_major_locator(MaxNLocator(nbins=5))
    if name.endswith("accuracy"):
        (axes.set_ylim if upright else axes.set_xlim)(*_room(values))
        axis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    else:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _room(values: Sequence[float]) -> tuple[float, float]:
    """The values with room beside them; a band that reaches above 100% is cut off there."""
    low, high = min(values), max(values)
    room = max(0.08 * (high - low), 0.002)
    return max(low - room, -0.01), min(high + room, 1.0 + room / 4)


def _draw_categories(facts: SweepFacts, dimension: Dimension, rows: Sequence[tuple[TrialRow, float]]) -> Markup:
    """A row for each value: its trials, their mean and their spread."""
    groups = [[y for row, y in rows if dimension.index(row) == index] for index in range(len(dimension.values))]
    found = [(value, ys) for value, ys in zip(dimension.values, groups, strict=True) if ys]
    sign = -1 if facts.sweep.mode == "max" else 1
    found.sort(key=lambda pair: sign * statistics.fmean(pair[1]))
    kept = found[: 2 * MOST_LEVELS]
    with drawing(74 + _CATEGORY_ROW * len(kept)) as (figure, axes):
        for place, (_, ys) in enumerate(kept):
            dots = evenly(sorted(ys), MOST_DOTS // len(kept))
            axes.plot(dots, [place] * len(dots), "o", markersize=4, color=SERIES[0], alpha=0.45, markeredgewidth=0)
            width = statistics.stdev(ys) if len(ys) > 1 else None
            axes.errorbar(statistics.fmean(ys), place, xerr=width, fmt="D", markersize=5, color=SERIES[1], capsize=3)
        axes.set_yticks(range(len(kept)), [shown(value, 22) for value, _ in kept])
        for label in axes.get_yticklabels():
            label.set_color(INK)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(kept) - 0.5, -0.5)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.set_title(_title(facts, dimension), loc="left", fontweight="bold")
        scale_metric(axes, facts.metric, [value for _, value in rows], upright=False)
        best = f"best is {shown(kept[0][0])} with a mean of {metric_text(facts.metric, statistics.fmean(kept[0][1]))}"
        text = f"{_title(facts, dimension)}: {plural(len(found), 'value')}, {best}."
        return to_svg(figure, f"swept-{_place(facts, dimension)}", text)


def _ends(facts: SweepFacts, lines: Sequence[Series]) -> list[float]:
    """How far the spreads reach, as far as the metric can."""
    reached = [mean + sign * width for line in lines for _, mean, width in line.means if width is not None for sign in (-1, 1)]
    if facts.metric.endswith("accuracy"):
        return [min(1.0, max(0.0, value)) for value in reached]
    return [value for value in reached if value > 0]


def _title(facts: SweepFacts, dimension: Dimension) -> str:
    return short(f"{facts.metric} against {dimension.label}", 52)


def _place(facts: SweepFacts, dimension: Dimension) -> int:
    """A number for the figure's ids."""
    return list(facts.sweep.space).index(dimension.key) + 1 if dimension.key is not None else 0


def _described(facts: SweepFacts, number: Dimension, lines: Sequence[Series]) -> str:
    choose = max if facts.sweep.mode == "max" else min
    parts = []
    for line in lines:
        x, mean, _ = choose(line.means, key=lambda each: each[1])
        name = f"{line.label}: " if line.label else ""
        parts.append(f"{name}best mean {metric_text(facts.metric, mean)} at {'about ' if number.drawn else ''}{x:.4g}")
    ends = f"{shown(number.values[0])} to {shown(number.values[-1])}"
    if facts.chance is not None:
        parts.append(f"guesses give {metric_text('accuracy', facts.chance)}")
    return f"{_title(facts, number)}, from {ends}. {'; '.join(parts)}."
