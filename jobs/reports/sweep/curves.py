"""The curves of a sweep's trials over each other, the best one marked."""

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jobs.reports.curves import points
from jobs.reports.svg import INK, SERIES, drawing, to_svg
from jobs.reports.sweep.charts import MOST_LINES, evenly, scale_metric
from jobs.reports.sweep.facts import Curve, SweepFacts
from jobs.reports.words import metric as metric_text
from jobs.reports.words import plural, short

MOST_POINTS = 60
"""Of one line among many."""
_HEIGHT = 236.0
_LEGEND_ROW = 16.5


def draw_curves(facts: SweepFacts) -> list[Markup]:
    """Of the metric as it was measured while training, and of the validation loss; none without rows."""
    metric = facts.metric.replace("test_", "val_", 1) if facts.metric.startswith("test_") else facts.metric
    names = dict.fromkeys((metric, "val_loss" if metric != "val_loss" else "loss"))
    return [figure for name in names if (figure := _draw(facts, name)) is not None]


def _draw(facts: SweepFacts, name: str) -> Markup | None:
    by_epoch = all(curve.unit for curve in facts.curves)
    found = [(curve, line) for curve in facts.curves if (line := _line(curve, name, by_epoch))]
    if not found:
        return None
    bases = [base.name for base in facts.sweep.base]
    several = 1 < len(bases) <= MOST_LINES
    best = facts.best.trial if facts.best else found[0][0].trial.id
    rows = -(-(len(bases) + 1) // 2) if several else 1
    with drawing(_HEIGHT + _LEGEND_ROW * rows) as (figure, axes):
        faint = 0.75 if len(found) <= 8 else 0.45
        for curve, line in reversed(found):
            colour = SERIES[bases.index(curve.trial.base)] if several else SERIES[0]
            marked = curve.trial.id == best
            shape = (INK, 2.6, 1.0, 3) if marked else (colour, 1.2, faint, 2)
            _draw_line(axes, line, *shape)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_title(f"{name} of {plural(len(found), 'trial')}", loc="left", fontweight="bold", pad=9 + _LEGEND_ROW * rows)
        axes.set_xlabel("epoch" if by_epoch else "step")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=2))
        scale_metric(axes, name, [y for _, line in found for _, y in line])
        _legend(axes, bases if several else [], best)
        return to_svg(figure, f"curves-{name}", _described(facts, name, found, best))


def _line(curve: Curve, name: str, by_epoch: bool) -> Sequence[tuple[float, float]]:
    return evenly(points(curve.history, name, curve.unit if by_epoch else None), MOST_POINTS)


def _draw_line(axes: Axes, line: Sequence[tuple[float, float]], colour: str, width: float, alpha: float, order: int) -> None:
    marker = "o" if len(line) == 1 else ""
    xs, ys = [x for x, _ in line], [y for _, y in line]
    axes.plot(xs, ys, color=colour, linewidth=width, alpha=alpha, zorder=order, marker=marker, markersize=3.5)


def _legend(axes: Axes, bases: Sequence[str], best: str) -> None:
    handles = [Line2D([], [], color=INK, linewidth=2.6, label=short(f"the best, {best}", 30 if bases else 50))]
    handles += [Line2D([], [], color=SERIES[index], label=short(base, 24)) for index, base in enumerate(bases)]
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=2,
        borderaxespad=0.1,
        columnspacing=1.4,
        handlelength=1.8,
    )


def _described(facts: SweepFacts, name: str, found: Sequence[tuple[Curve, Sequence[tuple[float, float]]]], best: str) -> str:
    ends = [line[-1][1] for _, line in found]
    own = next((line[-1][1] for curve, line in found if curve.trial.id == best), None)
    low, high = metric_text(name, min(ends)), metric_text(name, max(ends))
    marked = f"; that of the best trial, {best}, ends at {metric_text(name, own)}" if own is not None else ""
    return f"Curves of {name} of {plural(len(found), 'trial')}: they end between {low} and {high}{marked}."
