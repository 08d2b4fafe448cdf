"""Runs for tests on a real Kubernetes: as RayJobs of `service.cluster.manifests`, and a Ray cluster that is shared."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from service.cluster.cluster_defaults import ClusterDefaults, PodResources
from service.cluster.manifests import RayJobPlan, ray_job
from service.specs.parts import Resources
from support.kube import Document, Kube, Namespace
from support.kube_stores import SECRET, KubeStore
from support.workspace import Workspace

NOWHERE = "kube.local/nowhere:1"
"""An image that is not to be had."""
WORKER = Resources(cpus=0.6)
"""Two of them, a head, a submitter and a store have room on a node of 2 cores; more than half, so that each has a pod."""
CALM = ("cnn-digits", "--workers", "2", "-s", "worker.cpus=0.6", "-s", "epochs=200", "-s", "checkpoint.every_steps=200",
        "-s", "evaluate.every_epochs=100")  # fmt: skip
"""The run that is disturbed: long enough to take pods from (30 s on an idle machine, and what is seen of it is up to 10 s old)."""
START_SECONDS = 900
"""From applying a RayJob to a checkpoint (measured: 91 s to the first step; many times that beside other work, and while its pods wait for room)."""
END_SECONDS = 900
"""From what disturbs a run to its end (assumed: as long)."""
SELDOM = (*CALM, "-s", "checkpoint.every_steps=5000")
"""The same without a checkpoint of its own: what it has saved, it saved because it was told to end."""
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


def config_map(store: KubeStore, image: str, **more: Any) -> Document:
    """`delayline-defaults` as a platform engineer would apply it."""
    values = json.loads(defaults(store, image).model_dump_json(exclude_unset=True))
    values |= {
        "client_s3_endpoint": store.outside,
        "pools": {"broken": {"image": NOWHERE}},
        "image_pull_policy": "IfNotPresent",
        **more,
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "delayline-defaults"},
        "data": {"defaults.yaml": yaml.safe_dump(values)},
    }


def guest_config(cluster: Kube, folder: Path, token: str) -> Path:
    """A kubeconfig for another user of the same cluster."""
    found = yaml.safe_load(Path(cluster.kubeconfig).read_text())
    context = next(each for each in found["contexts"] if each["name"] == found["current-context"])
    found["users"] = [{"name": context["context"]["user"], "user": {"token": token}}]
    path = folder / "guest"
    path.write_text(yaml.safe_dump(found))
    return path


def plan(
    namespace: Namespace, name: str, store: KubeStore, image: str, *command: str, workers: tuple[int, int] = (2, 2)
) -> Document:
    """The RayJob of a run; `command` is what follows `python -m jobs.train`."""
    whole = ("python", "-m", "jobs.train", *command, "--name", name, "--store", store.url)
    wanted = RayJobPlan(name, namespace.name, whole, {}, workers, WORKER, defaults(store, image))
    return ray_job(wanted)


def shared_ray_cluster(
    namespace: Namespace, name: str, store: KubeStore, image: str, workers: tuple[int, int] = (2, 2)
) -> Document:
    """A Ray cluster for many runs, with the pods of a RayJob's own; with an autoscaler where the workers are a range."""
    spec = plan(namespace, name, store, image, workers=workers)["spec"]["rayClusterSpec"]
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


def remove(job: RayJob) -> None:
    """Free the node for what comes next."""
    job.namespace.run("delete", "rayjob", job.name, "--ignore-not-found", "--wait=false")
    selector = f"delayline.io/run={job.name}"
    job.namespace.wait_for(f"the end of the pods of {job.name}", lambda: not job.namespace.get("pods", "-l", selector), 180)


def wait_for_step(outside: Workspace, job: RayJob, step: int, saved: bool = True) -> None:
    """Wait until a run has `saved` a step, or done it, seen from outside; fail with what the namespace can tell."""

    def there() -> bool:
        try:
            run = outside.show(job.name)
        except Exception:
            return False
        assert run["state"] not in ("succeeded", "failed"), f"{run['state']}: {run['error']}"
        steps = [checkpoint["step"] for checkpoint in run["checkpoints"]] if saved else [run["step"]]
        return max(steps, default=0) >= step

    job.namespace.wait_for(f"step {step} of {job.name}", there, START_SECONDS)
