"""From the plan of a run to the RayJob that KubeRay carries out: a pure function, so that what is printed is what is applied."""

import math
import re
import shlex
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from service.cluster.cluster_defaults import PodResources, Pool
from service.cluster.kube_yaml import dump
from service.cluster.pod_templates import (
    SPOT_LABEL,
    autoscaler_options,
    autoscaler_token,
    ray_container,
    ray_pod,
    submitter_pod,
)
from service.cluster.ray_job_plan import MIB, RayJobPlan, check, workers_of_a_pod

__all__ = ["RayJobPlan", "ray_job"]

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
_NAME_LABEL = "app.kubernetes.io/name"
_MANAGED_BY = {"app.kubernetes.io/managed-by": "delayline"}
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

Document = dict[str, Any]


def ray_job(plan: RayJobPlan) -> Document:
    """The RayJob of a plan; raise InvalidInput for what Kubernetes or KubeRay would refuse, or what could never run."""
    check(plan)
    spec: Document = {
        "submissionMode": "K8sJobMode",
        "entrypoint": entrypoint(plan.command),
        "submitterConfig": {"backoffLimit": plan.defaults.resubmissions},
        "submitterPodTemplate": {"metadata": _metadata(plan), "spec": submitter_pod(plan.defaults, plan.image())},
    }
    deadlines = {
        "activeDeadlineSeconds": plan.defaults.active_deadline,
        "preRunningDeadlineSeconds": plan.defaults.pre_running_deadline,
    }
    spec |= {name: seconds for name, seconds in deadlines.items() if seconds is not None}
    spec |= _on_a_shared_cluster(plan, plan.ray_cluster) if plan.ray_cluster else _on_its_own_cluster(plan)
    labels = {_NAME_LABEL: "delayline", **({"kueue.x-k8s.io/queue-name": plan.queue} if plan.queue else {})}
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


def _on_a_shared_cluster(plan: RayJobPlan, name: str) -> Document:
    """KubeRay refuses a backoffLimit there; the job's id is its own, for Ray takes none twice."""
    own = {"runtimeEnvYAML": dump({"env_vars": dict(plan.variables)})} if plan.variables else {}
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
    elastic = {
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": autoscaler_options(_AUTOSCALER, IDLE_SECONDS),
    }
    return {
        "rayVersion": metadata.version("ray"),
        "authOptions": {"mode": "token"},
        **(elastic if plan.is_elastic else {}),
        "headGroupSpec": _head(plan),
        "workerGroupSpecs": [_worker_group(plan)],
    }


def _head(plan: RayJobPlan) -> Document:
    defaults = plan.defaults
    # KubeRay begins with the fewest workers; nobody else asks for the rest.
    more = {"DELAYLINE_ASK_FOR_MORE": "1"} if plan.is_elastic else {}
    container = ray_container(defaults, plan.image(), {**plan.variables, **more}, defaults.head)
    pod = ray_pod(defaults, container, defaults.pools[defaults.head_pool] if defaults.head_pool else None)
    if plan.is_elastic:
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
        cpu=_cores(math.ceil(round(cpus * plan.defaults.cpu_share * 1000, 3))),
        memory=_bytes((worker.memory or MEMORY) * share),
        memory_limit=_bytes((worker.memory or MOST_MEMORY) * share),
    )
    extended = {(pool or Pool()).gpu_resource: gpus} if gpus else None
    container = ray_container(plan.defaults, plan.image(pool), plan.variables, wanted, extended)
    labels = {SPOT_LABEL: "true"} if pool and pool.spot else {}
    return {
        "groupName": "workers",
        # KubeRay submits the driver once as many run as are asked for here.
        "replicas": fewest,
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
