"""How a split lies in its shards, and how far apart in it the examples of one batch may lie."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.datasets import Manifest
from service.datasets.rows import row_ends

WINDOW_BYTES = 1024**3
"""Examples are shuffled freely within that much data (assumed: small beside a node's disk, large beside a batch).

It decides on the order of every epoch of a larger dataset: another value is another run.
"""


@dataclass(frozen=True)
class Layout:
    """`ends` [shards]: the number of rows up to and with each shard. `window`: how many examples WINDOW_BYTES hold."""

    ends: NDArray[np.int64]
    window: int

    @property
    def windows(self) -> int:
        """Into how many windows an epoch is cut: one means that any two examples may meet in a batch."""
        return max(1, -(-int(self.ends[-1]) // self.window))


def layout_of(manifest: Manifest, split: str) -> Layout:
    """The layout of a split; an embedded one is a single shard."""
    ends = np.array([manifest.splits[split]], np.int64) if manifest.embedded else row_ends(manifest, split)
    return Layout(ends, max(1, WINDOW_BYTES // manifest.example_bytes))
