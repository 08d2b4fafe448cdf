"""The Ray cluster that this process belongs to."""

from jobs.worker_groups.ray_cluster import RayCluster


class JoinedCluster(RayCluster):
    """The Ray cluster that this process belongs to: nobody starts or leaves it, and when it ends it takes this process along."""

    def __exit__(self, *_: object) -> None:
        """The next trial runs here too."""
        self._watch.stop()
        self.ask_no_more()

    @property
    def is_connected(self) -> bool:
        """Always."""
        return True

    def is_alive(self) -> bool:
        """As long as anybody can ask."""
        return True
