"""Where workers find room: pods that an autoscaler makes, GPUs that a node says it has."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support import kube_runs
from support.kube import Kube, Namespace
from support.kube_runs import RAY_SECONDS
from support.kube_stores import KubeStore
from support.workspace import Workspace

pytestmark = [pytest.mark.kubernetes_long, pytest.mark.timeout(2400)]

SHORT = ("cnn-digits", "-s", "worker.cpus=0.6", "-s", "epochs=5")
GPU = "nvidia.com/gpu"


@pytest.fixture
def from_zero(shared: Namespace, store: KubeStore, image: str) -> Iterator[str]:
    """A shared Ray cluster with an autoscaler and no worker, once its head is ready."""
    document = kube_runs.shared_ray_cluster(shared, "grows", store, image, workers=(1, 2))
    (group,) = document["spec"]["workerGroupSpecs"]
    group |= {"replicas": 0, "minReplicas": 0}
    shared.apply([document])
    shared.wait_for(
        "the RayCluster", lambda: shared.get("raycluster", "grows").get("status", {}).get("state") == "ready", RAY_SECONDS
    )
    yield "grows"
    shared.kubectl("delete", "raycluster", "grows", "--wait=false")
    shared.wait_for("the cluster's end", lambda: not shared.get("pods", "-l", "ray.io/cluster=grows"), 180)


def test_an_autoscaled_group_grows_from_zero(user: Workspace, shared: Namespace, from_zero: str) -> None:
    workers = f"ray.io/cluster={from_zero},ray.io/node-type=worker"
    assert not shared.pods(workers)
    done = user.delayline(
        "train", *SHORT, "--workers", "2", "--name", "grown", "--cluster", f"kube://{shared.name}/{from_zero}", "--json"
    )
    assert done.code == 0, done.err + shared.told()
    assert "of 2 workers ha" in done.err, "it says what it waits for"
    (attempt,) = done.document["attempts"]
    assert len({worker["host"] for worker in attempt["workers"]}) == 2


@pytest.fixture
def gpus(owned: Kube) -> Iterator[None]:
    """The node says that it has a GPU."""
    (node,) = (each["metadata"]["name"] for each in owned.get("nodes"))

    def say(operations: list[dict[str, Any]]) -> None:
        owned.kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(operations))

    places = [f"/status/{part}/{GPU.replace('/', '~1')}" for part in ("capacity", "allocatable")]
    say([{"op": "add", "path": place, "value": "1"} for place in places])
    yield
    say([{"op": "remove", "path": place} for place in places])


def test_a_worker_is_given_a_gpu_and_says_that_tensorflow_sees_none(
    gpus: None, user: Workspace, shared: Namespace, store: KubeStore, image: str
) -> None:
    command = (
        "train",
        *SHORT,
        "--workers",
        "1",
        "-s",
        "worker.gpus=1",
        "--name",
        "gpu",
        "--cluster",
        f"kube://{shared.name}",
        "--json",
    )
    client = user.start(*command)
    shared.wait_for("its worker", lambda: shared.pods("delayline.io/run=gpu,ray.io/node-type=worker"), RAY_SECONDS)
    (pod,) = shared.pods("delayline.io/run=gpu,ray.io/node-type=worker")
    assert pod["spec"]["containers"][0]["resources"]["limits"][GPU] == "1"
    done = user.end_of(client)
    assert done.code == 0, done.err + shared.told()
    (said,) = (event["message"] for event in done.document["events"] if event["event"] == "no GPU")
    assert "TensorFlow sees none" in said
