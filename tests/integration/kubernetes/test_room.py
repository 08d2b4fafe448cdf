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
WITHOUT_CHANCE = (
    "-s", "model_params={dropout: 0}", "-s", "optimizer={name: sgd, learning_rate: 0.02}", "-s", "steps=9000", "-s", "checkpoint.every_steps=50"
)  # fmt: skip
GROWN_SECONDS = 1200
"""For a run to grow: room must stand for 5 minutes first, and a pod must come."""


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


def test_an_elastic_run_grows_with_a_pod_and_shrinks_without_one(owned: Kube, user: Workspace, shared: Namespace) -> None:
    """The losses are those of a run of one worker: dropout draws other masks on others, so there is none."""
    (node,) = (each["metadata"]["name"] for each in owned.get("nodes"))
    where = ("--workers", "1-2", "-s", "worker.cpus=0.6", "--name", "breathes", "--cluster", f"kube://{shared.name}")
    assert user.delayline("train", "run.yaml", *WITHOUT_CHANCE, *where, "--detach").code == 0
    user.wait_for("breathes", lambda run: len(run["attempts"]) == 2 and _saved_in_last_attempt(run), seconds=GROWN_SECONDS)
    owned.kubectl("cordon", node)
    try:
        shared.delete_pods("delayline.io/run=breathes,ray.io/node-type=worker", count=1)
        run = user.wait_for("breathes", lambda run: len(run["attempts"]) == 3 and _saved_in_last_attempt(run), seconds=600)
    finally:
        owned.kubectl("uncordon", node)
    user.delayline("runs", "cancel", "breathes", "--cluster", f"kube://{shared.name}")
    assert [len(attempt["workers"]) for attempt in run["attempts"]] == [1, 2, 1]
    assert [event["workers"] for event in run["events"] if event["event"] == "grows"] == [2]
    calm = user.delayline(
        "train", "run.yaml", *WITHOUT_CHANCE, "-s", "callbacks=[]", "--workers", "1", "--store", "calm", "--json"
    )
    assert calm.code == 0, calm.err
    undisturbed = {row["step"]: row["loss"] for row in calm.document["history"]}
    losses = {row["step"]: row["loss"] for row in run["history"]}
    assert len(losses) > 100
    assert losses == pytest.approx({step: undisturbed[step] for step in losses}, abs=1e-4)


def _saved_in_last_attempt(run: Any) -> bool:
    """Whether the newest attempt has trained on and saved."""
    before = run["attempts"][-2]["saved"] or 0
    return bool(run["attempts"][-1]["workers"] and run["checkpoints"][-1]["step"] > before)
