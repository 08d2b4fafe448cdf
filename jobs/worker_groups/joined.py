"""Workers of the Ray cluster that this process belongs to."""

from jobs.worker_groups.capacity import DRIVER_CPUS
from jobs.worker_groups.ray_train import WorkerGroup


class JoinedGroup(WorkerGroup):
    """Workers of the Ray cluster that this process belongs to, which find room for it beside them."""

    spared_cpus = DRIVER_CPUS

    def connect(self) -> None:
        """This process is connected."""

    def is_alive(self) -> bool:
        """A cluster that goes takes this process along."""
        return True

    def disconnect(self) -> None:
        """The next trial runs here too."""
