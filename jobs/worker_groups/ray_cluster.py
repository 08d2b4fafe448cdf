"""Ray itself as a run needs it: its environment, starting, joining, leaving, and ending what is left of it."""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psutil

from jobs.worker_groups.base import Leaving
from jobs.worker_groups.capacity import NodeRoom, local_node, nodes_of_cluster
from jobs.worker_groups.demand import Demand
from jobs.worker_groups.node_watch import NodeWatch
from jobs.worker_groups.patched import patched
from jobs.worker_groups.start_limit import limited, start_limit
from service.errors import DelaylineError, InfrastructureFailure
from service.settings import Settings

OBJECT_STORE_BYTES = 80 * 1024**2
"""Nothing of a run travels through Ray's object store; this is about the least that Ray accepts (measured: 75 MB)."""


PREPARED_MODULES = ("jobs.worker.lean_keras", "jobs.training.trainer")
"""Imported by a local cluster's worker processes while Ray itself still starts."""


# Ray and Ray Train read most of these when they are imported.
RAY_ENVIRONMENT = {
    # Ray's processes stand in the user's folder, where any file may have the name of one of Python's modules.
    "PYTHONSAFEPATH": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Under `uv run` Ray would make an environment of its own for each worker, which takes a minute.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    # Ray would give workers the priority of a background job (15).
    "RAY_worker_niceness": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "20",
    # Arrow's own allocator would keep what decoding a dataset took.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "1",
}


LOCAL_WAIT = 300.0
"""Seconds for Ray to start on this machine, where no room will come (assumed: ten times what a busy machine takes)."""


class RayCluster:
    """The Ray that a driver uses: one of its own on this machine, or one that exists. Leaving its block leaves it; one of its own ends.

    `local`: Ray's processes are this process's own. `wait_limit`: seconds for which it is tried again to connect and to find room.
    """

    def __init__(self, settings: Settings, local: bool) -> None:
        self.settings = settings
        self.local = local
        self._watch = NodeWatch()
        self._demand = Demand()
        self.wait_limit = min(settings.wait_limit, LOCAL_WAIT) if local else settings.wait_limit
        self._abandoned = False

    @classmethod
    def of(cls, settings: Settings) -> "RayCluster":
        """The one that RAY_ADDRESS names, else one of this process's own."""
        return cls(settings, settings.ray_address in (None, "local"))

    def __enter__(self) -> "RayCluster":
        for name, value in RAY_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.stop()
        if "ray" not in sys.modules:
            return
        import ray

        if not self.is_alive():
            # Ray would wait for a cluster that died.
            kill_local_ray()
        elif ray.is_initialized():
            # What is asked for goes with it.
            ray.shutdown()

    @property
    def is_connected(self) -> bool:
        """Whether this process belongs to the cluster."""
        import ray

        return bool(ray.is_initialized())

    def connect(self, cpus: int, modules: Sequence[str] = PREPARED_MODULES, helpers: int = 0) -> None:
        """Start or join the cluster; raise InfrastructureFailure. A Ray that stands still ends this process: see `limited`.

        One of this process's own has `cpus`, a waiting worker for each, which imports `modules`; see `start_local_ray` for `helpers`.
        """
        import ray

        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            with own_sigterm(), limited(start_limit(self.wait_limit)):
                if self.local:
                    from jobs.worker_groups.lean_ray import start_local_ray

                    start_local_ray(cpus, OBJECT_STORE_BYTES, tuple(modules), helpers, self.settings.ray_tmpdir)
                else:
                    address = self.settings.ray_address
                    ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except DelaylineError:
            raise
        except Exception as error:  # Ray raises bare ones too, as for a node that does not start in time.
            if self.local:
                # What did start would stay beside the next try.
                kill_local_ray()
            raise InfrastructureFailure(f"Ray did not start or could not be joined: {error}") from error

    def abandon(self) -> None:
        """Take the cluster for dead: what was started on it stands still."""
        self._abandoned = True

    def nodes(self) -> list[NodeRoom]:
        """What each node has for workers. Of one of this process's own the real machine: Ray counts processes there."""
        if self.local:
            return [NodeRoom(local_node(), local_node())]
        return nodes_of_cluster(self._demand.ids)

    def ask_for(self, workers: int, each: Mapping[str, float]) -> None:
        """Have room held for so many workers, which an autoscaler makes; nobody can make any on this machine."""
        if not self.local:
            self._demand.ask(workers, each)

    def ask_for_more(self, workers: int, each: Mapping[str, float]) -> None:
        """Have an autoscaler make room for so many workers beside those that train, and hold it for the next attempt."""
        if not self.local:
            # It is a wish: what Ray has to say of a cluster that is away it says to whoever needs it.
            with contextlib.suppress(Exception):
                self._demand.ask_for_more(workers, each)

    def held(self, seconds: float = 0.0) -> int:
        """For how many workers room is held, after waiting at most so long for it."""
        return self._demand.ready(seconds)

    def take_held(self) -> Any:
        """The placement group of that room, for an attempt; None on this machine, whose room is counted alone."""
        return self._demand.take()

    def ask_no_more(self) -> None:
        """Nothing is waited for any more."""
        self._demand.withdraw()

    def is_alive(self) -> bool:
        """Whether the processes of a cluster of this process's own still run; True for another, whose loss Ray reports. Not once abandoned."""
        import ray

        return not self._abandoned and (not self.local or not ray.is_initialized() or local_ray_lives())

    def leaving(self) -> Leaving:
        """Which nodes are being taken away; of one of this process's own none is, for this process is asked itself."""
        if self.local or not self.is_connected:
            return Leaving()
        return self._watch.seen()


@contextlib.contextmanager
def own_sigterm() -> Iterator[None]:
    """Within it, which is around all that starts or joins Ray, this process's handler of SIGTERM stays, where Ray's own exits at once."""
    import ray._private.utils

    handler = signal.getsignal(signal.SIGTERM)
    try:
        with patched(ray._private.utils, "set_sigterm_handler", lambda handler: None), _no_folder_first():
            yield
    finally:
        # In C, too, Ray puts one before it, which prints a stack.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def _no_folder_first() -> Iterator[None]:
    """Within it Ray does not have workers look for modules in the driver's current folder before all others."""
    from ray.job_config import JobConfig

    serialize = JobConfig._serialize

    def without_paths(config: JobConfig) -> Any:
        config._py_driver_sys_path = []
        return serialize(config)

    with patched(JobConfig, "_serialize", without_paths):
        yield


def local_ray_lives() -> bool:
    """Whether Ray's own processes below this one still run."""
    return {"raylet", "gcs_server"} <= {name for _, name in _children()}


def kill_local_ray() -> None:
    """End what is left of a local cluster that died."""
    for process, _ in _children():
        with contextlib.suppress(psutil.Error):
            process.kill()


def _children() -> list[tuple[psutil.Process, str]]:
    """The living processes below this one, with their names; one that ends meanwhile, such as another's helper, is none."""
    alive = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.append((process, process.name()))
    return alive
