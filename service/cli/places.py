"""The store and the cluster that a command's options name: a kube:// cluster knows its store itself."""

from service.cluster import open_cluster
from service.cluster.base import Cluster
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


def hindrance(place: Cluster | None, run_id: str) -> str | None:
    """What keeps a run from starting in its cluster; None where nothing does, or nobody knows."""
    handle = None if place is None else place.find(run_id)
    return None if handle is None else handle.hindrance()
