"""Ray Train's TensorflowTrainer, one attempt at a time: starts Ray where there is none, forms the group, tells how it ended."""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any
from unittest import mock

import psutil

from jobs.worker.process import WorkerConfig, train_worker
from service.container import UNLIMITED
from service.datasets import find_dataset, is_streamed
from service.errors import DelaylineError, InfrastructureFailure
from service.scratch import ScratchFolder
from service.settings import Settings
from service.specs.train import Resources, TrainSpec
from service.storage import open_store

OBJECT_STORE_BYTES = 80 * 1024**2
"""Nothing of a run travels through Ray's object store; this is about the least that Ray accepts (measured: 75 MB)."""
PREPARED_MODULES = ("jobs.worker.lean_keras", "jobs.training.trainer")
"""Imported by a local cluster's worker processes while Ray itself still starts."""
READERS_A_WORKER = 2
"""Processes that run the read tasks of a streaming worker: one while it trains, one while it evaluates."""
RAY_DATA_ACTORS = 2
"""Ray Data's own, for statistics and for scaling."""

DRIVER_CPUS = 0.01
"""Of the process that waits for a distributed trial's workers: Ray takes no less, and 1 by itself (its issue 54305)."""
LOCAL_WAIT = 300.0
"""For Ray to start on this machine, where no room will come (assumed: ten times what a busy machine takes)."""
NODE_SECONDS = 2.0
"""For a node to accept a connection (assumed: within one data centre it takes milliseconds)."""

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


class WorkerGroup:
    """The Ray cluster that a driver uses: one of its own on this machine, or one that exists."""

    spared_cpus = 0.0

    def __init__(self, settings: Settings, spec: TrainSpec) -> None:
        for name, value in RAY_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._settings = settings
        self._spec = spec
        self.local = settings.ray_address in (None, "local")
        self.wait_limit = min(settings.wait_limit, LOCAL_WAIT) if self.local else settings.wait_limit

    def connect(self) -> None:
        """Start or join the cluster; raise InfrastructureFailure."""
        import ray

        if ray.is_initialized():
            return
        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            with own_sigterm():
                self._join()
        except DelaylineError:
            raise
        except Exception as error:  # Ray raises bare ones too, as for a node that does not start in time.
            if self.local:
                # What did start would stay beside the next try.
                kill_local_ray()
            raise InfrastructureFailure(f"Ray did not start or could not be joined: {error}") from error

    def _streams(self) -> bool:
        """Whether Ray Data will have processes of its own beside the workers: each would import what is prepared."""
        if self._spec.input == "memory":
            return False
        with contextlib.suppress(DelaylineError):
            manifest = find_dataset(open_store(self._settings), self._spec.dataset, self._spec.dataset_params)
            return is_streamed(self._spec, manifest, self._spec.worker_counts[0])
        return False

    def _join(self) -> None:

        if self.local:
            from jobs.worker_groups.lean_ray import start_local_ray

            count = self._spec.worker_counts[0]
            if self._streams():
                start_local_ray(
                    count,
                    OBJECT_STORE_BYTES,
                    (),
                    helpers=READERS_A_WORKER * count + RAY_DATA_ACTORS,
                    ray_tmpdir=self._settings.ray_tmpdir,
                )
            else:
                start_local_ray(count, OBJECT_STORE_BYTES, PREPARED_MODULES, ray_tmpdir=self._settings.ray_tmpdir)
        else:
            join_cluster(self._settings)

    def size(self) -> int:
        """How many workers the cluster holds now, of those that the spec allows; raise InfrastructureFailure for none."""
        each = self._spec.worker
        nodes = [{"CPU": float(available_cpus()), "GPU": _local_gpus()}] if self.local else nodes_of_cluster()
        room = sum(room_for(node, each) for node in nodes)
        for count in self._spec.worker_counts:
            if count <= room:
                return count
        cpus, gpus = (sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU"))
        memory = f", {each.memory // 10**6}MB" if each.memory else ""
        raise InfrastructureFailure(
            f"The cluster holds {cpus:g} CPUs and {gpus:g} GPUs on {len(nodes)} nodes, room for {room} workers "
            f"of {each.cpus:g} CPUs{memory} and {each.gpus:g} GPUs; the run needs at least {self._spec.workers[0]}."
        )

    def start(self, config: WorkerConfig) -> "Attempt":
        """Start the workers of one attempt in a thread."""
        return Attempt(self._spec, config, self.local, self.spared_cpus)

    def is_alive(self) -> bool:
        """Whether the processes of a local cluster still run; True for a cluster elsewhere, whose loss Ray reports."""
        import ray

        if not self.local or not ray.is_initialized():
            return True
        return local_ray_lives()

    def kill(self) -> None:
        """End what is left of a local cluster that died."""
        kill_local_ray()

    def disconnect(self) -> None:
        """Leave the cluster; a local one ends."""
        import ray

        if ray.is_initialized():
            ray.shutdown()


def join_cluster(settings: Settings) -> None:
    """Join the cluster that the settings name, unless this process belongs to one."""
    import ray

    if not ray.is_initialized():
        ray.init(address=settings.ray_address, log_to_driver=False, logging_level="ERROR", configure_logging=False)


def _local_gpus() -> float:
    import ray

    return float(ray.cluster_resources().get("GPU", 0.0))


def nodes_of_cluster() -> list[dict[str, float]]:
    """What each node of the cluster has that answers: Ray itself takes up to 20 s to notice that one is gone."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"] and _answers(node)]


def _answers(node: dict[str, Any]) -> bool:
    try:
        with socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), NODE_SECONDS):
            return True
    except OSError:
        return False


def room_for(node: dict[str, float], worker: Resources) -> int:
    """How many workers fit on a node, of which Ray tells the resources."""
    room = int((node.get("CPU", 0.0) + 1e-6) / worker.cpus)
    if worker.gpus:
        room = min(room, int(node.get("GPU", 0.0) // worker.gpus))
    return min(room, int(node.get("memory", UNLIMITED) // worker.memory)) if worker.memory else room


def in_ray_job() -> bool:
    """Whether this process was started by Ray as a job's entry point."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


@contextlib.contextmanager
def own_sigterm() -> Iterator[None]:
    """Within it, which is around all that starts or joins Ray, this process's handler of SIGTERM stays, where Ray's own exits at once."""
    import ray._private.utils

    handler = signal.getsignal(signal.SIGTERM)
    try:
        with mock.patch.object(ray._private.utils, "set_sigterm_handler", lambda handler: None), _no_folder_first():
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

    with mock.patch.object(JobConfig, "_serialize", without_paths):
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


def available_cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Attempt:
    """Ray Train's `fit` in a thread; `error` is what it raised."""

    def __init__(self, spec: TrainSpec, config: WorkerConfig, local: bool, spared_cpus: float = 0.0) -> None:
        self._spec = spec
        self._spared_cpus = spared_cpus
        self._local = local
        self._config = config
        self.error: BaseException | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fit", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether the attempt ended, after waiting at most so long."""
        return self._done.wait(seconds)

    def _run(self) -> None:
        try:
            fit(self._spec, self._config, self._local, self._spared_cpus)
        except BaseException as error:
            self.error = error
        finally:
            self._done.set()


def fit(spec: TrainSpec, config: WorkerConfig, local: bool, spared_cpus: float = 0.0) -> None:
    """Run the workers of one attempt to their end; raise what Ray Train raises.

    `spared_cpus`: of each worker's CPUs so much is left to the process that waits for them.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    from jobs.worker_groups.ring_trainer import LocalRingTrainer, RingTrainer

    # A local cluster has a CPU for each worker that it is to start at once; the real cores were checked before.
    resources = {"CPU": 1.0 if local else max(DRIVER_CPUS, spec.worker.cpus - spared_cpus)}
    if 0 < spec.worker.gpus < 1:
        resources["GPU"] = spec.worker.gpus
    if spec.worker.memory and not local:
        resources["memory"] = float(spec.worker.memory)
    with ScratchFolder("ray-train") as folder:
        trainer = (LocalRingTrainer if local else RingTrainer)(
            train_worker,
            train_loop_config=asdict(config),
            scaling_config=ScalingConfig(
                num_workers=config.workers,
                use_gpu=spec.worker.gpus > 0,
                resources_per_worker=resources,
                placement_strategy="PACK",
            ),
            # Retries are the driver's: it knows whose failure it was. Of nodes that are drained Ray would make any number by itself.
            run_config=RunConfig(
                name=f"{config.run_id}-{config.attempt}",
                storage_path=folder,
                failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),
            ),
        )
        trainer.fit()
