"""Looks in a thread of its own which nodes of a Ray cluster are being taken away."""

from collections.abc import Callable

from jobs.repeating import Repeating
from jobs.worker_groups.base import Leaving
from jobs.worker_groups.capacity import draining_nodes

LOOK_SECONDS = 1.0
"""Between looks (assumed: short beside the 30 s that are the shortest common grace; a look takes 1 ms, measured)."""


def own_node() -> str:
    """The id of this process's node."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


class NodeWatch:
    """Begins to look when it is first asked; a cluster that does not answer holds up nobody but its thread.

    `draining` gives the ids of the nodes, `own` that of this process's.
    """

    def __init__(self, draining: Callable[[], frozenset[str]] = draining_nodes, own: Callable[[], str] = own_node) -> None:
        self._draining, self._own = draining, own
        self._seen = Leaving()
        self._looks: Repeating | None = None

    def seen(self) -> Leaving:
        """What the newest look found."""
        if self._looks is None or self._looks.stopped:
            self._looks = Repeating("nodes", LOOK_SECONDS, self._look, first=0.0)
        return self._seen

    def stop(self) -> None:
        """Look no more."""
        if self._looks is not None:
            self._looks.stop()

    def _look(self) -> None:
        try:
            nodes = self._draining()
            self._seen = Leaving(nodes, driver=bool(nodes) and self._own() in nodes)
        except Exception:
            # Ray itself says so to whoever needs the cluster, if it is away for long.
            return
