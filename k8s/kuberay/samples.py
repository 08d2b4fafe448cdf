"""Write the RayJobs and the RayCluster of this folder: `python k8s/kuberay/samples.py`; a test compares them.

They are what `--cluster kube://…` would submit with the defaults of `delayline-defaults.yaml`, but for the namespace, which `kubectl -n` gives.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from service.cluster.cluster_defaults import KEY, ClusterDefaults
from service.cluster.driver_jobs import variables
from service.cluster.kube_yaml import dump
from service.cluster.manifests import RayJobPlan, ray_job
from service.specs.parts import Resources

HERE = Path(__file__).parent
DEFAULTS = HERE / "delayline-defaults.yaml"
_EDIT = "Edit the image and what else is yours"
GIB = 1024**3

Document = dict[str, Any]


def main() -> None:
    """Write them all."""
    for name, text in samples().items():
        (HERE / name).write_text(text, encoding="utf-8")


def samples() -> dict[str, str]:
    """The files' texts by their names."""
    defaults = ClusterDefaults.parse(yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))["data"][KEY], DEFAULTS.name)
    queued = defaults.model_copy(update={"queue": "team-queue"})
    gpu = Resources(cpus=4, gpus=1, memory=8 * GIB)
    jobs = {
        "rayjob.cpu.yaml": (_plan("digits-cpu", defaults), "Two workers on CPUs."),
        "rayjob.gpu-spot.yaml": (
            _plan("digits-gpu-spot", defaults, worker=gpu, pool="gpu-spot"),
            "Two workers with a GPU each, on spot nodes; the head is on none.",
        ),
        "rayjob.kueue.yaml": (_plan("digits-kueue", queued), "Waits in Kueue's LocalQueue team-queue until there is room."),
        "rayjob.elastic.yaml": (
            _plan("digits-elastic", defaults, workers=(1, 4)),
            "One to four workers: it starts with one; KubeRay's autoscaler makes pods for more as the run asks for them.",
        ),
    }
    texts = {name: _text(name, about, ray_job(plan)) for name, (plan, about) in jobs.items()}
    about = "A Ray cluster for many runs, `--cluster kube://NAMESPACE/shared`: two workers of one CPU."
    return {**texts, "raycluster.yaml": _text("raycluster.yaml", about, shared_cluster(defaults))}


def shared_cluster(defaults: ClusterDefaults) -> Document:
    """A RayCluster of no run: that of a RayJob without the run's labels and variables."""
    spec = ray_job(replace(_plan("shared", defaults), variables={}))["spec"]["rayClusterSpec"]
    labels = {"app.kubernetes.io/managed-by": "delayline"}
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        group["template"]["metadata"]["labels"] = labels
    return {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": "shared", "labels": labels}, "spec": spec}


def _plan(
    name: str,
    defaults: ClusterDefaults,
    workers: tuple[int, int] = (2, 2),
    worker: Resources = Resources(),  # noqa: B008 - frozen
    pool: str | None = None,
) -> RayJobPlan:
    """The recipe cnn-digits, whose pictures are in the image, under this name."""
    fewest, most = workers
    given = {"cpus": f"{worker.cpus:g}", "gpus": f"{worker.gpus:g}", "memory": f"{(worker.memory or 0) // GIB}GiB"}
    keys = [word for key in sorted(worker.model_fields_set) for word in ("-s", f"worker.{key}={given[key]}")]
    count = str(most) if fewest == most else f"{fewest}-{most}"
    command = ("python", "-m", "jobs.train", "cnn-digits", "--workers", count, "--name", name, *keys)
    chosen = defaults.pool(pool) if pool else None
    return RayJobPlan(name, "default", command, variables(), workers, worker, defaults, chosen)


def _text(name: str, about: str, document: Document) -> str:
    """The file: what it is for, and the manifest without a namespace or anchors, which not every reader of YAML knows."""
    document["metadata"].pop("namespace", None)
    head = f"# {about} {_EDIT}, then: kubectl -n NAMESPACE apply -f k8s/kuberay/{name}\n# Written by k8s/kuberay/samples.py.\n"
    return head + dump(document, width=1000)


if __name__ == "__main__":
    main()
