"""What a run needs on Kubernetes, and what of it Kubernetes or KubeRay would refuse, or could never run."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from service.cluster.cluster_defaults import CONFIG_MAP, ClusterDefaults, Pool
from service.errors import InvalidInput
from service.machine import megabytes
from service.names import LONGEST, is_label
from service.specs.parts import Resources

MIB = 1024**2
LEAST_MEMORY = 800 * MIB
"""Bytes of a worker's pod below which none is started (measured: it peaks at 791 MiB with MNIST, Ray's own processes included)."""
_PARTS = 10_000
"""Ray counts its resources in ten-thousandths."""
_ALLOWED = re.compile(
    r"DELAYLINE_[A-Z0-9_]+|RAY_JOB_STOP_WAIT_TIME_S|PYTHONSAFEPATH|TZ|AWS_(DEFAULT_)?REGION|AWS_ENDPOINT_URL(_S3)?"
)


@dataclass(frozen=True)
class RayJobPlan:
    """What a run needs on a Kubernetes cluster with KubeRay."""

    name: str
    """The run's id, and the RayJob's name: so a run has one RayJob at most."""
    namespace: str
    command: tuple[str, ...]
    """The driver's argv, on the head."""
    variables: Mapping[str, str]
    """For the driver and the workers, such as DELAYLINE_RING_TIMEOUT; never credentials."""
    workers: tuple[int, int]
    """The fewest and the most; elastic where they differ."""
    worker: Resources
    """What each worker takes."""
    defaults: ClusterDefaults
    pool: Pool | None = None
    """Where the workers run; None: on any node."""
    ray_cluster: str | None = None
    """A shared Ray cluster; None: the run has one of its own."""
    owner: str | None = None
    kind: str = "train"

    @property
    def is_elastic(self) -> bool:
        """Whether the number of workers may change."""
        return self.workers[0] != self.workers[1]

    @property
    def queue(self) -> str | None:
        """Kueue's queue; none on a shared cluster, whose nodes are there already, and which Kueue refuses."""
        return None if self.ray_cluster else (self.pool.queue if self.pool else None) or self.defaults.queue

    def image(self, pool: Pool | None = None) -> str:
        """The image of the pods on the nodes of `pool`; raise InvalidInput where none is named."""
        image = (pool.image if pool else None) or self.defaults.image
        if image is None:
            raise InvalidInput(
                f"No image is named for the run's pods: set `image` in the ConfigMap {CONFIG_MAP} of the namespace {self.namespace}."
            )
        return image


def workers_of_a_pod(worker: Resources, most: int) -> int:
    """How many workers share a pod: more than one where they take parts of a CPU or GPU, which a Ray node has whole."""
    part = max(1, math.ceil(round((worker.gpus or worker.cpus) * _PARTS, 6)))
    return max(1, min(_PARTS // part, most))


def check(plan: RayJobPlan) -> None:
    """Raise InvalidInput, with the remedy, for what Kubernetes or KubeRay would refuse, or what could never run."""
    if not is_label(plan.name) or not plan.name[0].isalpha():
        raise InvalidInput(
            f"The run id {plan.name[:60]!r} cannot name a RayJob: on Kubernetes it has 1 to {LONGEST} lower-case letters, digits and "
            f"inner hyphens and begins with a letter, such as 'cnn-2'; give another --name."
        )
    fewest, most = plan.workers
    if not 1 <= fewest <= most:
        raise InvalidInput(f"{fewest} to {most} workers are no range: give --workers 2, or 2-8.")
    _check_variables(plan)
    if plan.ray_cluster:
        if plan.pool is not None:
            raise InvalidInput(
                f"The RayCluster {plan.ray_cluster!r} has its workers already, so no pool can be chosen: "
                f"leave --pool out, or use kube://{plan.namespace} for a Ray cluster of the run's own."
            )
        return
    _check_workers(plan)


def _check_variables(plan: RayJobPlan) -> None:
    for name, value in plan.variables.items():
        if not _ALLOWED.fullmatch(name):
            raise InvalidInput(
                f"The variable {name[:60]!r} is not sent to pods, where all who read the RayJob would see it: "
                f"put credentials into a Secret and name it in the ConfigMap {CONFIG_MAP}, `credentials_secret`."
            )
        if not value.isprintable():
            raise InvalidInput(f"The value of {name} holds control characters: choose another.")
        if plan.ray_cluster and re.search(r"[$`]", value):
            raise InvalidInput(
                f"The value of {name} holds $ or `, which KubeRay does not hand on to a shared Ray cluster: choose another, or set the "
                f"variable in the pods of the RayCluster."
            )


def _check_workers(plan: RayJobPlan) -> None:
    memory, most = plan.worker.memory, plan.workers[1]
    if memory is not None and memory < LEAST_MEMORY:
        raise InvalidInput(
            f"worker.memory is {megabytes(memory)}, but a worker's pod takes at least {megabytes(LEAST_MEMORY)}, Python, TensorFlow "
            f"and Ray alone: use -s worker.memory={math.ceil(LEAST_MEMORY / MIB)}MiB or more."
        )
    if plan.worker.gpus > 1:
        raise InvalidInput(f"A worker holds one GPU at most, not {plan.worker.gpus:g}: use -s worker.gpus=1.")
    limit = plan.pool.max_workers if plan.pool else None
    if limit is not None and most > limit:
        raise InvalidInput(
            f"{most} workers are more than the {limit} that this pool allows: use --workers {limit}, or another pool."
        )
    if plan.is_elastic and plan.queue:
        raise InvalidInput(
            f"Kueue's queue {plan.queue!r} admits runs of a fixed size alone, not {plan.workers[0]}-{most} workers: use --workers {most}."
        )
