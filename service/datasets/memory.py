"""Whether a dataset is held in memory or streamed: how much memory a worker has, and how much the data would take of it."""

import psutil

from service.control_groups import memory_limit
from service.datasets.manifest import Manifest
from service.specs.train import TrainSpec

MEMORY_SHARE = 0.5
"""Larger data than this share of a worker's memory is streamed (assumed: model, optimizer and batches need the rest)."""


def is_streamed(spec: TrainSpec, manifest: Manifest, neighbours: int) -> bool:
    """Whether a worker, one of `neighbours` on its node, streams the examples; what ships with the package is in memory."""
    if manifest.embedded or spec.input != "auto":
        return spec.input == "stream" and not manifest.embedded
    memory = spec.worker.memory or memory_of_a_worker(neighbours)
    return sum(manifest.splits.values()) * manifest.example_bytes > MEMORY_SHARE * memory


def memory_of_a_worker(neighbours: int) -> int:
    """Bytes that each of `neighbours` workers of this node has: what is free now, at most the container's limit."""
    return min(psutil.virtual_memory().available, memory_limit()) // max(1, neighbours)
