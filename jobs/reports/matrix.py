"""The confusion matrix as a figure; as a picture where there are many classes."""

import numpy as np
from markupsafe import Markup
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from jobs.reports.svg import BAD, INK, ON_STRONG, SERIES, WIDTH, drawing, to_svg
from jobs.reports.words import short

MOST_DRAWN = 20
"""Classes up to which each cell is drawn; beyond it the matrix is a picture of a few pixels for each cell."""
MOST_NUMBERED = 12
_STRONG = 0.55
_BLUE = (58, 130, 200)
"""Seen on light and on dark paper alike."""


def draw_matrix(
    counts: NDArray[np.int64], classes: list[str], description: str, examples: NDArray[np.int64] | None = None
) -> Markup:
    """Rows are true classes, columns predicted ones; the colour is the share of the row, the number the count.

    `examples` [n] of each row where these classes are not all.
    """
    n = len(counts)
    rows = np.maximum(counts.sum(axis=1) if examples is None else examples, 1)[:, np.newaxis]
    names = [short(name, 14) for name in classes]
    upright = max(len(name) for name in names) > 2
    with drawing(WIDTH + (20 if upright else 0)) as (figure, axes):
        for row, column in np.argwhere(counts):
            share = float(counts[row, column] / rows[row, 0])
            right = row == column
            colour = SERIES[0] if right else BAD
            # A single mistake must be seen: its share alone would be nearly the paper's colour.
            strength = share if right else 0.12 + 0.88 * min(1.0, 4 * share)
            axes.add_patch(Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, facecolor=colour, alpha=strength, linewidth=0))
            if n <= MOST_NUMBERED:
                text = ON_STRONG if strength > _STRONG else INK
                size = 10.5 if counts.max() < 1000 else 8.5
                axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=text, fontsize=size)
        axes.set_xlim(-0.5, n - 0.5)
        axes.set_ylim(n - 0.5, -0.5)
        axes.set_aspect("equal")
        axes.set_xticks(range(n), names, rotation=90 if upright else 0)
        axes.set_yticks(range(n), names)
        axes.tick_params(length=0)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        for spine in axes.spines.values():
            spine.set_visible(False)
        return to_svg(figure, "confusion", description)


def matrix_picture(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Many classes as a picture [n, n, 4], a pixel for each cell; the opacity follows the root of the share of the row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = np.empty((*counts.shape, 4), np.uint8)
    picture[..., :3] = _BLUE
    picture[..., 3] = np.rint(255 * np.sqrt(shares))
    return picture
