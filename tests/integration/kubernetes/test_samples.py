"""The RayJobs of k8s/kuberay as a user would apply them: those for CPUs to their end, the one for GPUs as far as this node takes it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from support import kube_runs
from support.kube import Namespace
from support.kube_images import ROOT
from support.kube_runs import END_SECONDS, START_SECONDS, RayJob
from support.kube_stores import KubeStore
from support.workspace import Workspace

pytestmark = [pytest.mark.kubernetes_long, pytest.mark.timeout(2400)]


@pytest.fixture
def apply(shared: Namespace, store: KubeStore, image: str) -> Iterator[Callable[[str], RayJob]]:
    """Applies a sample with the image of the tests; its pods ask for fewer CPUs than in the file, for the node has two."""
    made = []

    def applied(name: str) -> RayJob:
        document = yaml.safe_load((ROOT / "k8s" / "kuberay" / name).read_text())
        spec = document["spec"]
        (workers,) = spec["rayClusterSpec"]["workerGroupSpecs"]
        for template, cpu in (
            (spec["submitterPodTemplate"], "20m"), (spec["rayClusterSpec"]["headGroupSpec"]["template"], "200m"), (workers["template"], "400m"),
        ):  # fmt: skip
            (container,) = template["spec"]["containers"]
            container["image"] = image
            container["resources"]["requests"]["cpu"] = cpu
        made.append(kube_runs.apply(shared, document))
        return made[-1]

    yield applied
    for job in made:
        kube_runs.remove(job)


@pytest.mark.parametrize(("name", "workers"), [("digits-cpu", 2), ("digits-elastic", 2)])
def test_a_sample_for_cpus_is_a_whole_run(
    apply: Callable[[str], RayJob], shared: Namespace, outside: Workspace, name: str, workers: int
) -> None:
    """The elastic one starts with one pod, in which two workers of half a CPU have room."""
    job = apply(f"rayjob.{name.removeprefix('digits-')}.yaml")
    assert job.name == name
    status = job.wait_for_end(START_SECONDS + END_SECONDS)
    assert status["jobStatus"] == "SUCCEEDED", shared.told()
    run = outside.show(name)
    assert run["state"] == "succeeded" and run["metrics"]["test_accuracy"] > 0.95
    assert len(run["attempts"][0]["workers"]) == workers


def test_workers_for_gpus_wait_for_a_node_that_has_some(apply: Callable[[str], RayJob], shared: Namespace) -> None:
    job = apply("rayjob.gpu-spot.yaml")

    def refused() -> Any:
        pods = shared.pods(f"delayline.io/run={job.name},ray.io/node-type=worker")
        said = [
            each.get("message") or ""
            for pod in pods
            for each in pod["status"].get("conditions", ())
            if each["type"] == "PodScheduled"
        ]
        return len(said) == 2 and all("node affinity" in each or "Insufficient" in each for each in said)

    shared.wait_for("both workers to be refused", refused, START_SECONDS)
