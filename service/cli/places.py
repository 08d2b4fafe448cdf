"""The store and the cluster that a command's options name: a kube:// cluster knows its store itself."""

import time
from typing import Any, TypeVar

from service.cluster import open_cluster
from service.cluster.base import Cluster
from service.records.answers import Run, RunRow
from service.records.schemas import RunState, Waiting
from service.settings import Settings
from service.storage import open_store
from service.storage.base import Store

KUBERNETES = "kube://"


def open_place(settings: Settings) -> tuple[Cluster | None, Store]:
    """The Kubernetes cluster that the settings name, None where they name none, and the store, which the cluster may say."""
    if settings.cluster is None or not settings.cluster.startswith(KUBERNETES):
        return None, open_store(settings)
    place = open_cluster(settings)
    return place, open_store(place.client_settings(settings))


NOT_STARTED = (RunState.QUEUED, RunState.LOST)
"""What a run counts as whose driver has not begun, or is gone; its cluster may know why, or start another one."""

Seen = TypeVar("Seen", Run, RunRow)


def as_its_job_says(place: Cluster | None, found: Seen) -> Seen:
    """A run without a driver as it stands where its job is kept alive: that starts the next driver, so that it is not lost.

    With what it waits for, where that is known and the document has a place for it.
    """
    handle = place.find(found.id) if place is not None and found.state in NOT_STARTED else None
    if handle is None:
        return found
    state, why = found.state, handle.hindrance() if isinstance(found, Run) else None
    if state == RunState.LOST and handle.poll() is None:
        state = RunState.RETRYING if found.started else RunState.QUEUED
        why = why or (
            "the driver was lost; its job starts another one" if found.started else "its job has not started a driver yet"
        )
    changes: dict[str, Any] = {"state": state}
    if isinstance(found, Run) and why is not None:
        changes["waiting"] = Waiting(since=found.submitted or time.time(), message=why)
    return found.model_copy(update=changes)
