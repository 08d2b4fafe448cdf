"""How much memory a worker has, and how much a dataset would take of it."""

from pathlib import Path

import psutil

from service.datasets import Manifest

_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of the container: control groups version 2, and 1."""


def memory_of_a_worker(neighbours: int) -> int:
    """Bytes that each of `neighbours` workers of this node has: what is free now, at most the container's limit."""
    limits = [psutil.virtual_memory().available]
    for file in _LIMITS:
        try:
            limits.append(int(file.read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return min(limits) // max(1, neighbours)


def bytes_of(manifest: Manifest) -> int:
    """Bytes that all splits of a dataset take as arrays."""
    from service.datasets.shards import example_bytes

    return sum(manifest.splits.values()) * example_bytes(manifest.features)
