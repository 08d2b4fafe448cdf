"""The hidden states of recurrent layers as heat maps."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.reports.facts import RunFacts
from jobs.reports.pictures import png

_ABOVE, _BELOW = (216, 90, 20), (58, 130, 200)
"""Seen on light and on dark paper alike."""


def states(facts: RunFacts) -> list[dict[str, Any]]:
    """A heat map for each recurrent layer, if its picture is not left out."""
    rows = []
    for place, layer in enumerate(facts.results.get("states") or []):
        picture = facts.pictures.get(f"states-{place}")
        if picture is not None:
            rows.append({**layer, "shown": len(picture), "first": picture.shape[1], "picture": png(signed(picture))})
    return rows


def signed(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Values [units, steps] around 128 as colours: orange above, blue below, the fuller the larger."""
    offset = values.astype(np.int16) - 128
    picture = np.empty((*values.shape, 4), np.uint8)
    picture[..., :3] = np.where((offset >= 0)[..., None], _ABOVE, _BELOW)
    picture[..., 3] = np.clip(2 * np.abs(offset), 0, 255)
    return picture
