"""Whether a dataset is held in memory or streamed: how much memory a worker has, and how much the data would take of it."""

from pathlib import Path

import psutil

from service.datasets.manifest import Manifest
from service.specs import TrainSpec

MEMORY_SHARE = 0.5
"""Larger data than this share of a worker's memory is streamed (assumed: model, optimizer and batches need the rest)."""
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of the container: control groups version 2, and 1."""


def is_streamed(spec: TrainSpec, manifest: Manifest, neighbours: int) -> bool:
    """Whether a worker, one of `neighbours` on its node, streams the examples; what ships with the package is in memory."""
    if manifest.embedded or spec.input != "auto":
        return spec.input == "stream" and not manifest.embedded
    return sum(manifest.splits.values()) * manifest.example_bytes > MEMORY_SHARE * memory_of_a_worker(neighbours)


def memory_of_a_worker(neighbours: int) -> int:
    """Bytes that each of `neighbours` workers of this node has: what is free now, at most the container's limit."""
    limits = [psutil.virtual_memory().available]
    for file in _LIMITS:
        try:
            limits.append(int(file.read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return min(limits) // max(1, neighbours)
