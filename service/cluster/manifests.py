"""From the plan of a run to the RayJob that KubeRay carries out: a pure function, so that what is printed is what is applied."""

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import yaml

from service.cluster.cluster_defaults import CONFIG_MAP, ClusterDefaults, PodResources, Pool
from service.cluster.pod_templates import (
    SPOT_LABEL,
    autoscaler_options,
    autoscaler_token,
    ray_container,
    ray_pod,
    submitter_pod,
)
from service.errors import InvalidInput
from service.machine import megabytes
from service.names import LONGEST, is_label
from service.specs.parts import Resources

MIB = 1024**2
LEAST_MEMORY = 768 * MIB
"""Bytes of a worker's pod below which none is started (measured: it peaks at 0.77 to 0.8 GiB with MNIST, Ray's own processes
included)."""
MEMORY = 1024 * MIB
MOST_MEMORY = 2048 * MIB
"""Bytes that are kept free for a worker without `worker.memory`, and the most that it may take (derived: the peak with MNIST in
whole GiB; twice that for larger data and models, beyond which its pod is killed and the run says so)."""
OBJECT_STORE_BYTES = 100_000_000
"""Of each Ray node (assumed: a run moves no data through it; streaming holds 24 MiB there, and Ray takes no less than 75 MB)."""
IDLE_SECONDS = 600
"""After which the autoscaler takes a worker that has no work (derived: twice the 5 minutes for which a run that may grow looks
on at room)."""
_AUTOSCALER = PodResources(cpu="100m", memory="512Mi", memory_limit="1Gi")
_PARTS = 10_000
"""Ray counts its resources in ten-thousandths."""
_ALLOWED = re.compile(
    r"DELAYLINE_[A-Z0-9_]+|RAY_JOB_STOP_WAIT_TIME_S|PYTHONSAFEPATH|TZ|AWS_(DEFAULT_)?REGION|AWS_ENDPOINT_URL(_S3)?"
)
_NAME_LABEL = "app.kubernetes.io/name"
_MANAGED_BY = {"app.kubernetes.io/managed-by": "delayline"}
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

Document = dict[str, Any]


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


def ray_job(plan: RayJobPlan) -> Document:
    """The RayJob of a plan; raise InvalidInput for what Kubernetes or KubeRay would refuse, or what could never run."""
    _check(plan)
    spec: Document = {
        "submissionMode": "K8sJobMode",
        "entrypoint": entrypoint(plan.command),
        "submitterConfig": {"backoffLimit": plan.defaults.resubmissions},
        "submitterPodTemplate": {"metadata": _metadata(plan), "spec": submitter_pod(plan.defaults, _image(plan, None))},
    }
    deadlines = {
        "activeDeadlineSeconds": plan.defaults.active_deadline,
        "preRunningDeadlineSeconds": plan.defaults.pre_running_deadline,
    }
    spec |= {name: seconds for name, seconds in deadlines.items() if seconds is not None}
    spec |= _on_a_shared_cluster(plan, plan.ray_cluster) if plan.ray_cluster else _on_its_own_cluster(plan)
    labels = {_NAME_LABEL: "delayline", **({"kueue.x-k8s.io/queue-name": queue} if (queue := _queue(plan)) else {})}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": plan.name, "namespace": plan.namespace, **_metadata(plan, labels)},
        "spec": spec,
    }


def entrypoint(command: tuple[str, ...]) -> str:
    """The command as KubeRay takes it, for a shell of the submitter's; Ray quotes it again for the head's.

    KubeRay makes it an argument of a container, where Kubernetes replaces `$(NAME)` and makes `$` of `$$`.
    """
    return shlex.join(("exec", *command)).replace("$", "$$")


def workers_of_a_pod(worker: Resources, most: int) -> int:
    """How many workers share a pod: more than one where they take parts of a CPU or GPU, which a Ray node has whole."""
    parts = [part for part in (worker.gpus, worker.cpus) if part]
    if worker.gpus:
        parts = [worker.gpus]
    share = min(_PARTS // max(1, math.ceil(round(part * _PARTS, 6))) for part in parts)
    return max(1, min(share, most))


def _on_a_shared_cluster(plan: RayJobPlan, name: str) -> Document:
    """KubeRay refuses a backoffLimit there; the job's id is its own, for Ray takes none twice."""
    own = {"runtimeEnvYAML": yaml.safe_dump({"env_vars": dict(plan.variables)})} if plan.variables else {}
    return {"clusterSelector": {"ray.io/cluster": name}, **own}


def _on_its_own_cluster(plan: RayJobPlan) -> Document:
    return {
        # KubeRay would repeat every failure on a new cluster, a user's own mistakes too; what was lost, the submitter submits again.
        "backoffLimit": 0,
        "jobId": f"delayline-{plan.name}",
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": plan.defaults.ttl_seconds,
        "rayClusterSpec": _ray_cluster(plan),
    }


def _ray_cluster(plan: RayJobPlan) -> Document:
    fewest, most = plan.workers
    elastic = {
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": autoscaler_options(_AUTOSCALER, IDLE_SECONDS),
    }
    return {
        "rayVersion": metadata.version("ray"),
        "authOptions": {"mode": "token"},
        **(elastic if fewest != most else {}),
        "headGroupSpec": _head(plan),
        "workerGroupSpecs": [_worker_group(plan)],
    }


def _head(plan: RayJobPlan) -> Document:
    defaults = plan.defaults
    container = ray_container(defaults, _image(plan, None), plan.variables, defaults.head)
    pod = ray_pod(defaults, container, defaults.pools[defaults.head_pool] if defaults.head_pool else None)
    if plan.workers[0] != plan.workers[1]:
        pod["volumes"] = [*pod["volumes"], {"name": "autoscaler-tmp", "emptyDir": {}}, autoscaler_token()]
    parameters = {"num-cpus": "0", "num-gpus": "0", "dashboard-host": "0.0.0.0"}  # noqa: S104 - in the pod; the token guards it
    return {
        "rayStartParams": {**parameters, "object-store-memory": str(OBJECT_STORE_BYTES)},
        "template": {"metadata": _metadata(plan), "spec": pod},
    }


def _worker_group(plan: RayJobPlan) -> Document:
    worker, pool, share = plan.worker, plan.pool, workers_of_a_pod(plan.worker, plan.workers[1])
    fewest, most = (math.ceil(number / share) for number in plan.workers)
    cpus, gpus = worker.cpus * share, math.ceil(round(worker.gpus * share, 6))
    wanted = PodResources(
        cpu=_cores(math.ceil(round(cpus * 1000, 3))),
        memory=_bytes((worker.memory or MEMORY) * share),
        memory_limit=_bytes((worker.memory or MOST_MEMORY) * share),
    )
    extended = {(pool or Pool()).gpu_resource: gpus} if gpus else None
    container = ray_container(plan.defaults, _image(plan, pool), plan.variables, wanted, extended)
    labels = {SPOT_LABEL: "true"} if pool and pool.spot else {}
    return {
        "groupName": "workers",
        "replicas": most,
        "minReplicas": fewest,
        "maxReplicas": most,
        "rayStartParams": {
            "num-cpus": str(math.ceil(round(cpus, 6))),
            "num-gpus": str(gpus),
            "object-store-memory": str(OBJECT_STORE_BYTES),
        },
        "template": {"metadata": _metadata(plan, labels, pool), "spec": ray_pod(plan.defaults, container, pool)},
    }


def _cores(thousandths: int) -> str:
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)


def _bytes(number: int) -> str:
    return str(number) if number % MIB else f"{number // MIB}Mi"


def _image(plan: RayJobPlan, pool: Pool | None) -> str:
    image = (pool.image if pool else None) or plan.defaults.image
    if image is None:
        raise InvalidInput(
            f"No image is named for the run's pods: set `image` in the ConfigMap {CONFIG_MAP} of {plan.namespace}."
        )
    return image


def _queue(plan: RayJobPlan) -> str | None:
    """Kueue's queue; none on a shared cluster, whose nodes are there already, and which Kueue refuses."""
    return None if plan.ray_cluster else (plan.pool.queue if plan.pool else None) or plan.defaults.queue


def _metadata(plan: RayJobPlan, labels: Mapping[str, str] | None = None, pool: Pool | None = None) -> Document:
    """Labels and annotations of the RayJob and of each pod.

    KubeRay finds the head's pod by `app.kubernetes.io/name: kuberay`, so Ray's pods keep that.
    """
    owner = plan.owner or ""
    own = {**_MANAGED_BY, "delayline.io/run": plan.name, "delayline.io/kind": plan.kind, **(labels or {})}
    own |= {"delayline.io/owner": owner} if _LABEL_VALUE.fullmatch(owner) else {}
    annotations = {**plan.defaults.annotations, **(pool.annotations if pool else {})}
    annotations |= {"delayline.io/owner": owner} if owner else {}
    found: Document = {"labels": {**plan.defaults.labels, **(pool.labels if pool else {}), **own}}
    return {**found, "annotations": annotations} if annotations else found


def _check(plan: RayJobPlan) -> None:
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
        if not value.isprintable() or (plan.ray_cluster and re.search(r"[$`]", value)):
            raise InvalidInput(
                f"The value of {name} holds characters that KubeRay does not hand on to a shared Ray cluster ($, ` and control "
                f"characters): choose another, or set the variable in the pods of the RayCluster."
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
    if plan.workers[0] != most and (queue := _queue(plan)):
        raise InvalidInput(
            f"Kueue's queue {queue!r} admits runs of a fixed size alone, not {plan.workers[0]}-{most} workers: use --workers {most}."
        )
