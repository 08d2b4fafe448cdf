"""Lines over a run's steps: losses, accuracies, speed; of one run or of several."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from jobs.reports.svg import SERIES, WARN, drawing, to_svg
from jobs.reports.words import figure as figure_text
from service.records.schemas import Row

MOST_POINTS = 240
"""Of a line: more are closer together than a screen's pixels."""
LOG_FROM = 30.0
"""A loss whose largest value is so many times its smallest is drawn on a logarithmic scale (assumed)."""
_HEIGHT = 236.0
_LEGEND_ROW = 16.5


@dataclass(frozen=True)
class Line:
    """Points (x, y) under a label; `colour` and `style` count from 0, `dots` marks each point."""

    label: str
    points: list[tuple[float, float]]
    colour: int = 0
    style: int = 0
    dots: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines with what they share. `since`: where over-fitting begins; `best`: where the validation loss was lowest."""

    name: str
    title: str
    description: str
    lines: Sequence[Line]
    x_label: str
    share: bool = False
    """The values are shares of 1, shown in percent."""
    log: bool = False
    since: float | None = None
    best: float | None = None


def points(history: list[Row], metric: str, unit: int | None) -> list[tuple[float, float]]:
    """(epoch or step, value) of the rows that have the metric; `unit` is the steps of an epoch, or None for steps."""
    return thinned([(row.step / (unit or 1), value) for row in history if (value := row.value(metric)) is not None])


def rates(history: list[Row], batch: int, unit: int | None, breaks: list[float]) -> list[tuple[float, float]]:
    """(epoch or step, examples a second) between rows, all that happens there included; `breaks`: when attempts began."""
    found = []
    for before, row in itertools.pairwise(history):
        begin, end = before.time, row.time
        if begin is None or end is None or end <= begin or any(begin < moment <= end for moment in breaks):
            continue
        found.append((row.step / (unit or 1), (row.step - before.step) * batch / (end - begin)))
    return thinned(found)


def thinned(values: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MOST_POINTS, evenly taken, the first and the last among them."""
    if len(values) <= MOST_POINTS:
        return values
    last = len(values) - 1
    return [values[round(index * last / (MOST_POINTS - 1))] for index in range(MOST_POINTS)]


def spans_decades(lines: Sequence[Line]) -> bool:
    """Whether the values are positive and differ by so much that a logarithmic scale shows them better."""
    values = [y for line in lines for _, y in line.points]
    return bool(values) and min(values) > 0 and max(values) / min(values) >= LOG_FROM


def draw(chart: Chart) -> Markup:
    """The chart as SVG."""
    # A line takes room of its own in the legend, which stands above the axes.
    rows = -(-len(chart.lines) // 2) if len(chart.lines) > 1 else 0
    with drawing(_HEIGHT + _LEGEND_ROW * rows) as (figure, axes):
        _shade(axes, chart)
        for line in chart.lines:
            _draw_line(axes, line)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_title(chart.title, loc="left", fontweight="bold", pad=9 + _LEGEND_ROW * rows)
        axes.set_xlabel(chart.x_label)
        _scales(axes, chart)
        if rows:
            axes.legend(
                loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderaxespad=0.1, columnspacing=1.4, handlelength=1.8
            )
        return to_svg(figure, chart.name, chart.description)


def _draw_line(axes: Axes, line: Line) -> None:
    style = ("-", "--", ":", "-.")[line.style % 4]
    marker: dict[str, Any] = {"marker": "o", "markersize": 3.5} if line.dots or len(line.points) == 1 else {}
    xs, ys = [x for x, _ in line.points], [y for _, y in line.points]
    axes.plot(xs, ys, label=line.label, color=SERIES[line.colour % len(SERIES)], linestyle=style, **marker)


def _shade(axes: Axes, chart: Chart) -> None:
    """The stretch of over-fitting, named in the figure; the place of the lowest validation loss."""
    end = max((x for line in chart.lines for x, _ in line.points), default=0.0)
    if chart.since is not None and end > chart.since:
        axes.axvspan(chart.since, end, color=WARN, alpha=0.18, linewidth=0)
        # Accuracies fill the top of the axes, losses rise towards it only where they over-fit.
        height, side = (0.04, "bottom") if chart.share else (0.97, "top")
        middle = (chart.since + end) / 2
        axes.text(
            middle,
            height,
            "over-fitting",
            transform=axes.get_xaxis_transform(),
            ha="center",
            va=side,
            color=WARN,
            fontweight="bold",
        )
    if chart.best is not None and chart.best < end:
        axes.axvline(chart.best, color=WARN, linewidth=1.2, linestyle=(0, (2, 2)))


def _scales(axes: Axes, chart: Chart) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=2))
    if chart.share:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    elif chart.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: figure_text(int(value)) if value >= 1000 else f"{value:g}"))
    if not chart.log and not chart.share:
        highest = max((y for line in chart.lines for _, y in line.points), default=1.0)
        axes.set_ylim(0, 1.12 * highest or 1.0)
