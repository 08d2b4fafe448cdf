"""What this machine has for workers: processors, GPUs and memory that this process may use, also in a container."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from service.control_groups import UNLIMITED, memory_limit, processor_limit
from service.errors import InvalidInput
from service.settings import visible_gpus
from service.specs.parts import Resources

GPUS = Path("/proc/driver/nvidia/gpus")
ROOT = Path("/")
"""Where `proc` and `sys` are; tests look at other machines' recorded trees."""


@dataclass(frozen=True)
class Machine:
    """Processors (as a container's quota allows, rounded up, as Ray counts them), NVIDIA GPUs, and bytes of memory."""

    cpus: int
    gpus: int
    memory: int = UNLIMITED

    def check(self, workers: int, worker: Resources) -> None:
        """Raise InvalidInput, with the remedy, unless `workers` of these resources each fit."""
        cpus, gpus, memory = worker.cpus, worker.gpus, worker.memory or 0
        verb = "needs" if workers == 1 else "need"
        if workers * gpus > self.gpus:
            raise InvalidInput(
                f"{_count(workers, 'worker')} of {_count(gpus, 'GPU')} {verb} {workers * gpus:g}; this machine has {self.gpus}: "
                f"use {self._fewer(workers, int(self.gpus // gpus))}-s worker.gpus=0."
            )
        # Ray counts in ten-thousandths of a processor.
        if round(workers * cpus, 4) > self.cpus:
            share = math.floor(self.cpus / workers * 100) / 100
            raise InvalidInput(
                f"{_count(workers, 'worker')} of {cpus:g} CPU{'' if cpus == 1 else 's'} {verb} {workers * cpus:g}; this machine has {self.cpus}: "
                f"use {self._fewer(workers, int(self.cpus / cpus))}-s worker.cpus={max(share, 0.01):g}."
            )
        if workers * memory > self.memory:
            raise InvalidInput(
                f"{_count(workers, 'worker')} of {megabytes(memory)} of memory {verb} {megabytes(workers * memory)}; "
                f"this machine has {megabytes(self.memory)}: use {self._fewer(workers, self.memory // memory)}"
                f"-s worker.memory={megabytes(self.memory // workers)}."
            )

    @staticmethod
    def _fewer(workers: int, fit: int) -> str:
        return f"--workers {fit} or " if 1 <= fit < workers else ""


def this_machine() -> Machine:
    """Count what this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        cpus=min(usable, processor_limit(ROOT)), gpus=_gpus(), memory=min(psutil.virtual_memory().total, memory_limit(ROOT))
    )


def megabytes(size: int) -> str:
    """A size as a spec takes it, rounded down."""
    return f"{size // 10**6}MB"


def _gpus() -> int:
    try:
        installed = sum(1 for _ in GPUS.iterdir())
    except OSError:
        return 0
    # As Ray and TensorFlow count them: CUDA shows a process no others.
    visible = visible_gpus()
    return installed if visible is None else min(installed, visible)


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}" if number == 1 else f"{number:g} {noun}s"
