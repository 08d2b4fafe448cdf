"""Runs for tests on a real Kubernetes: as RayJobs of `service.cluster.manifests`, and a Ray cluster that is shared."""

import base64
from dataclasses import dataclass
from typing import Any

from service.cluster.cluster_defaults import ClusterDefaults, PodResources
from service.cluster.manifests import RayJobPlan, ray_job
from service.specs.parts import Resources
from support.kube import Document, Namespace
from support.kube_stores import SECRET, KubeStore

WORKER = Resources(cpus=0.6)
"""Two of them, a head, a submitter and a store have room on a node of 2 cores; more than half, so that each has a pod."""
CALM = ("cnn-digits", "--workers", "2", "-s", "worker.cpus=0.6", "-s", "epochs=60", "-s", "checkpoint.every_steps=100",
        "-s", "evaluate.every_epochs=20")  # fmt: skip
"""The run that is disturbed: long enough to take pods from, with a checkpoint every few seconds."""
RAY_SECONDS = 240
"""For a Ray cluster's pods to be ready (measured: 25 s, on a busy machine 90)."""


def defaults(store: KubeStore, image: str) -> ClusterDefaults:
    """What a platform engineer would set, with small requests."""
    return ClusterDefaults(
        image=image,
        store=store.url,
        s3_endpoint=store.endpoint,
        credentials_secret=SECRET,
        head=PodResources(cpu="200m", memory="1Gi", memory_limit="3Gi"),
        submitter=PodResources(cpu="20m", memory="128Mi", memory_limit="512Mi"),
    )


def plan(
    namespace: Namespace, name: str, store: KubeStore, image: str, *command: str, ray_cluster: str | None = None
) -> Document:
    """The RayJob of a run; `command` is what follows `python -m jobs.train`."""
    whole = ("python", "-m", "jobs.train", *command, "--name", name, "--store", store.url)
    wanted = RayJobPlan(name, namespace.name, whole, {}, (2, 2), WORKER, defaults(store, image), ray_cluster=ray_cluster)
    return ray_job(wanted)


def shared_ray_cluster(namespace: Namespace, name: str, store: KubeStore, image: str) -> Document:
    """A Ray cluster for many runs, with the pods of a RayJob's own."""
    spec = plan(namespace, name, store, image)["spec"]["rayClusterSpec"]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": name, "namespace": namespace.name},
        "spec": spec,
    }


def ray_token(namespace: Namespace, ray_cluster: str) -> str:
    """The token of a Ray cluster, from the Secret that KubeRay makes."""
    return base64.b64decode(namespace.get("secret", ray_cluster)["data"]["auth_token"]).decode()


@dataclass(frozen=True)
class RayJob:
    """A RayJob that was applied."""

    namespace: Namespace
    name: str

    @property
    def document(self) -> Document:
        return dict(self.namespace.get("rayjob", self.name))

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.document.get("status", {}))

    @property
    def ray_cluster(self) -> str:
        """The name of its Ray cluster, once it has one."""
        return str(
            self.namespace.wait_for(
                f"the Ray cluster of {self.name}", lambda: self.status.get("rayClusterName"), RAY_SECONDS
            )
        )  # fmt: skip

    def pods(self, kind: str) -> str:
        """The selector of its `head` or `worker` pods."""
        return f"ray.io/cluster={self.ray_cluster},ray.io/node-type={kind}"

    def wait_for_end(self, seconds: float) -> dict[str, Any]:
        """Its status once KubeRay says that it has ended."""

        def ended() -> dict[str, Any] | None:
            status = self.status
            return status if status.get("jobDeploymentStatus") in ("Complete", "Failed", "ValidationFailed") else None

        return self.namespace.wait_for(f"the end of the RayJob {self.name}", ended, seconds)


def apply(namespace: Namespace, document: Document) -> RayJob:
    namespace.apply([document])
    return RayJob(namespace, document["metadata"]["name"])
