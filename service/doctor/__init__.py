"""Checks what could keep a run from working here: store, cluster, packages, GPUs; each with its remedy, within seconds.

Nothing is started, and nothing is left in the store.
"""

from service.doctor.cluster import cluster_checks
from service.doctor.findings import Finding, Line, examine
from service.doctor.head import head_checks
from service.doctor.machine import machine_checks
from service.doctor.store import store_checks
from service.settings import Settings

__all__ = ["Finding", "Line", "diagnose"]

LIMIT_SECONDS = 9.0
"""For all together: ten, less the start of the command itself."""


def diagnose(settings: Settings) -> list[Line]:
    """Do all checks, the three groups at the same time; return their lines in a fixed order."""
    groups = [store_checks(settings), cluster_checks(settings), [*machine_checks(), *head_checks(settings)]]
    return examine(groups, LIMIT_SECONDS)
