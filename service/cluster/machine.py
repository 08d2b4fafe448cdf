"""What this machine has for workers: processors and GPUs that this process may use."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from service.errors import InvalidInput

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Machine:
    """Processors (as a container's quota allows, rounded up, as Ray counts them) and NVIDIA GPUs."""

    cpus: int
    gpus: int

    def check(self, workers: int, cpus: float, gpus: int) -> None:
        """Raise InvalidInput, with the remedy, unless `workers` of `cpus` and `gpus` each fit."""
        verb = "needs" if workers == 1 else "need"
        if workers * gpus > self.gpus:
            raise InvalidInput(
                f"{_count(workers, 'worker')} of {_count(gpus, 'GPU')} {verb} {workers * gpus}; this machine has {self.gpus}: "
                f"use {self._fewer(workers, self.gpus // gpus)}-s worker.gpus=0."
            )
        # Ray counts in ten-thousandths of a processor.
        if round(workers * cpus, 4) > self.cpus:
            share = math.floor(self.cpus / workers * 100) / 100
            raise InvalidInput(
                f"{_count(workers, 'worker')} of {cpus:g} CPU{'' if cpus == 1 else 's'} {verb} {workers * cpus:g}; this machine has {self.cpus}: "
                f"use {self._fewer(workers, int(self.cpus / cpus))}-s worker.cpus={max(share, 0.01):g}."
            )

    @staticmethod
    def _fewer(workers: int, fit: int) -> str:
        return f"--workers {fit} or " if 1 <= fit < workers else ""


def this_machine() -> Machine:
    """Count what this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(cpus=min(usable, _quota()), gpus=_gpus())


def _quota() -> int:
    """The container's limit of processors, rounded up; a large number without one."""
    try:
        quota, period = _QUOTA.read_text(encoding="ascii").split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return 1 << 30


def _gpus() -> int:
    try:
        return sum(1 for _ in _GPUS.iterdir())
    except OSError:
        return 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
