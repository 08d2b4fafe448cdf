"""Ray Train's TensorflowTrainer, one attempt at a time: starts the workers on the driver's cluster and keeps what ended them."""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from jobs.worker.config import WorkerConfig
from jobs.worker.process import train_worker
from jobs.worker_groups.base import Leaving
from jobs.worker_groups.capacity import NoRoom, fitting_workers, resources_of_worker
from jobs.worker_groups.demand import remove
from jobs.worker_groups.ray_cluster import RayCluster
from jobs.worker_groups.start_limit import start_limit
from service.datasets import find_dataset, is_streamed
from service.errors import DelaylineError, InfrastructureFailure
from service.scratch import ScratchFolder
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage import open_store

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

HOLD_SECONDS = 3.0
"""For room that there is to be held (derived: fifteen times what a node takes to give back what the attempt before held, measured)."""
READERS_A_WORKER = 2
"""Processes that run the read tasks of a streaming worker: one while it trains, one while it evaluates."""
RAY_DATA_ACTORS = 2
"""Ray Data's own, for statistics and for scaling."""


class WorkersStandStill(InfrastructureFailure):
    """The workers of an attempt are there and do not begin."""


class WorkerGroup:
    """The workers of one run on a Ray cluster, which is entered and left with the group.

    `spared_cpus`: of each worker's CPUs so much is left to the process that waits for them.
    """

    def __init__(self, cluster: RayCluster, spec: TrainSpec, spared_cpus: float = 0.0) -> None:
        self.wait_limit = cluster.wait_limit
        self._cluster = cluster
        self._spec = spec
        self._spared_cpus = spared_cpus

    @classmethod
    def of(cls, settings: Settings, spec: TrainSpec) -> "WorkerGroup":
        """On the cluster that the settings name, or one of this process's own."""
        return cls(RayCluster.of(settings), spec)

    def __enter__(self) -> "WorkerGroup":
        self._cluster.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._cluster.__exit__(*error)

    def size(self) -> int:
        """Connect to the cluster and return how many workers it holds now, of the numbers that the spec allows.

        Their room is held until `start`: of runs that look at the same one has it. Raise InfrastructureFailure where Ray does not
        start, NoRoom where there is none: the cluster is asked for the fewest then.
        """
        if not self._cluster.is_connected:
            self._connect(self._spec.worker_counts[0])
        if self._cluster.local:
            return fitting_workers(self._spec, self._cluster.nodes())
        held = self._cluster.held()
        try:
            count = fitting_workers(self._spec, self._cluster.nodes(), self._spared_cpus)
        except NoRoom:
            count = self._spec.worker_counts[-1]
            if not held:
                self._cluster.ask_for(count, self._each)
                raise
        if held >= count:
            return held
        self._cluster.ask_for(count, self._each)
        if not self._cluster.held(HOLD_SECONDS):
            said = f"room for {count} workers is about to be free"
            raise NoRoom(f"There was {said}, and others took it.", waiting=said)
        return count

    @property
    def _each(self) -> dict[str, float]:
        return resources_of_worker(self._spec.worker, self._spared_cpus)

    def room(self) -> int:
        """Of the numbers that the spec allows what the cluster holds, those included that `start` asked for and that have come."""
        if self._cluster.local:
            return 0
        try:
            return fitting_workers(self._spec, self._cluster.nodes(), self._spared_cpus)
        except NoRoom:
            return 0

    def start(self, config: WorkerConfig) -> "RayAttempt":
        """Start the workers of one attempt in a thread, in the room that is held for them.

        In a cluster of the run's own the others of its range are asked for.
        """
        attempt = RayAttempt(self._spec, config, self._cluster, self._spared_cpus)
        missing = self._spec.worker_counts[0] - config.workers
        if self._cluster.settings.ask_for_more and missing and config.trained is None:
            self._cluster.ask_for_more(missing, self._each)
        return attempt

    def is_alive(self) -> bool:
        """Whether the cluster is."""
        return self._cluster.is_alive()

    def leaving(self) -> Leaving:
        """Those of the cluster."""
        return self._cluster.leaving()

    def _connect(self, count: int) -> None:
        if self._cluster.local and self._streams():
            # Ray Data's processes would each import what only a worker needs.
            self._cluster.connect(count, (), helpers=READERS_A_WORKER * count + RAY_DATA_ACTORS)
        else:
            self._cluster.connect(count)

    def _streams(self) -> bool:
        """Whether Ray Data will have processes of its own beside the workers."""
        if self._spec.input == "memory":
            return False
        with contextlib.suppress(DelaylineError):
            store = open_store(self._cluster.settings)
            manifest = find_dataset(store, self._spec.dataset, self._spec.dataset_params)
            return is_streamed(self._spec, manifest, self._spec.worker_counts[0])
        return False


class RayAttempt:
    """Ray Train's `fit` in a thread; `error` is what it raised. Workers that do not start in time end it and have the cluster abandoned."""

    def __init__(self, spec: TrainSpec, config: WorkerConfig, cluster: RayCluster, spared_cpus: float) -> None:
        self._spec = spec
        self._spared_cpus = spared_cpus
        self._cluster = cluster
        self._held = cluster.take_held()
        self._config = config
        self.error: BaseException | None = None
        self._limit = start_limit(cluster.wait_limit)
        self._begins = time.monotonic()
        self._trains, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="fit", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether the attempt ended, after waiting at most so long."""
        if self._done.wait(seconds):
            return True
        if self._trains.is_set() or time.monotonic() - self._begins < self._limit:
            return False
        self._cluster.abandon()
        self.error = WorkersStandStill(f"The workers did not start within {self._limit:.0f} s; their processes are ended.")
        return True

    def _run(self) -> None:
        try:
            fit(self._spec, self._config, self._cluster.local, self._spared_cpus, self._held, self._trains.set)
        except BaseException as error:
            self.error = error
        finally:
            # Ray Train ends it too, once it has it.
            with contextlib.suppress(Exception):
                remove(self._held)
            self._done.set()


def fit(
    spec: TrainSpec,
    config: WorkerConfig,
    local: bool,
    spared_cpus: float,
    held: "PlacementGroup | None",
    started: Callable[[], None],
) -> None:
    """Run the workers of one attempt to their end; raise what Ray Train raises.

    `spared_cpus`: of each worker's CPUs so much is left to the process that waits for them. `held`: the room for them; None: Ray Train
    makes some. `started` is called once all workers run.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    from jobs.worker_groups.ring_trainer import RingTrainer

    # A local cluster has a CPU for each worker that it is to start at once; the real cores were checked before.
    resources = {"CPU": 1.0} if local else resources_of_worker(spec.worker, spared_cpus)
    if local and 0 < spec.worker.gpus < 1:
        resources["GPU"] = spec.worker.gpus
    with ScratchFolder("ray-train") as folder:
        trainer = RingTrainer(
            train_worker,
            prepared=local,
            held=held,
            started=started,
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
