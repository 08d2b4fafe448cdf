"""Ray Train's TensorflowTrainer, one attempt at a time: starts Ray where there is none, forms the group, tells how it ended."""

import contextlib
import logging
import os
import threading
from dataclasses import asdict

from jobs.worker.config import WorkerConfig
from jobs.worker.process import train_worker
from jobs.worker_groups.capacity import DRIVER_CPUS, local_node, nodes_of_cluster, room_for
from jobs.worker_groups.ray_cluster import (
    OBJECT_STORE_BYTES,
    PREPARED_MODULES,
    RAY_ENVIRONMENT,
    join_cluster,
    kill_local_ray,
    local_ray_lives,
    own_sigterm,
)
from service.datasets import find_dataset, is_streamed
from service.errors import DelaylineError, InfrastructureFailure
from service.scratch import ScratchFolder
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage import open_store

READERS_A_WORKER = 2
"""Processes that run the read tasks of a streaming worker: one while it trains, one while it evaluates."""
RAY_DATA_ACTORS = 2
"""Ray Data's own, for statistics and for scaling."""

LOCAL_WAIT = 300.0
"""For Ray to start on this machine, where no room will come (assumed: ten times what a busy machine takes)."""


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
        nodes = [local_node()] if self.local else nodes_of_cluster()
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
