"""What a head of a Ray cluster needs that drives a run, and whether this container has it."""

import shutil

import psutil

from service import machine
from service.control_groups import memory_limit
from service.doctor.findings import Check, Finding, failed, ok
from service.ray_folder import default_ray_folder
from service.settings import GIB, Settings

LEAST_BYTES = GIB
"""Of memory for a head with a driver (measured on KubeRay: 873 MiB in training with 2 workers; derived: in whole GiB)."""
GOOD_BYTES = 2 * GIB
"""The limit to give it (assumed: twice as much, for sweeps and long runs)."""
DISK_BYTES = GIB
"""Free on its disk (assumed: Ray's logs begin with 2 MB, measured, and rotate at 512 MB; a run's scratch is small on the head)."""


def head_checks(settings: Settings) -> list[Check]:
    """The check of this container as a head; elsewhere it tells what one needs."""
    return [("head", lambda: _head(settings))]


def _head(settings: Settings) -> Finding:
    needs = (
        "a head with a driver takes 0.9 GiB of memory, better 2, and 1 GiB of disk, which is empty in a head that is made anew"
    )
    limit, total = memory_limit(machine.ROOT), psutil.virtual_memory().total
    if not settings.in_kubernetes and limit >= total:
        return ok(f"this is no container; {needs}")
    has, folder = min(limit, total), default_ray_folder(settings.ray_tmpdir).parent
    free = shutil.disk_usage(folder).free
    here = f"this container has {has / GIB:.1f} GiB of memory and {free / GIB:.1f} GiB free in {folder}"
    if has < LEAST_BYTES:
        return failed(f"{here}: too little memory for a head, which takes 0.9 GiB with a driver; give it a limit of 2 GiB.")
    if free < DISK_BYTES:
        return failed(f"{here}: too little disk for a head; give it 1 GiB, or set TMPDIR and RAY_TMPDIR to a folder with more.")
    advice = "" if has >= GOOD_BYTES else "; as a head it should have 2 GiB, for sweeps and long runs"
    return ok(f"{here}{advice or f'; {needs}'}")
