"""Figures as SVG that stands in the page itself and takes its colours from the page's style, light or dark."""

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

WIDTH = 374.0
"""Points; about the pixels that a narrow screen of 400 has, so that the letters keep their size there."""

# Each colour is a marker, replaced by the name of a colour of the style sheet.
_MARKER = "#0102{:02x}"
_NAMES = ("ink", "muted", "line", "paper", "on-strong", "good", "bad", "warn", *(f"s{index}" for index in range(8)))
INK, MUTED, LINE, PAPER, ON_STRONG, GOOD, BAD, WARN, *SERIES = (_MARKER.format(index + 16) for index in range(len(_NAMES)))

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "delayline",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11.0,
    "axes.titlesize": 12.0,
    "axes.labelsize": 11.0,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "legend.fontsize": 10.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "path.simplify": True,
}


@contextmanager
def drawing(height: float, width: float = WIDTH) -> Iterator[tuple[Figure, Axes]]:
    """A figure of that many points with one pair of axes, in the report's style."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.add_subplot()


def to_svg(figure: Figure, name: str, description: str) -> Markup:
    """The figure as an element of a page; call it within `drawing`. `name` keeps its ids apart from other figures'."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    for index, colour in enumerate(_NAMES):
        text = text.replace(_MARKER.format(index + 16), f"var(--{colour})")
    text = re.sub(r"font: (\w+ )?([\d.]+)px [^;\"]*", r"font-size: \2px", text)
    text = re.sub(r"\n\s*", "\n", text)
    head = f'<svg role="img" aria-label="{html.escape(description)}" '
    opening, rest = text.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', opening)
    return Markup(f"{head}{view[0] if view else ''}>{rest}")  # noqa: S704 - made here, by matplotlib, which escapes texts
