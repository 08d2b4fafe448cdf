"""Nodes of a Ray cluster are taken away as Kubernetes does it: SIGTERM, and no more for some seconds."""

from collections.abc import Iterator

import pytest
from support import ray_clusters
from support.ray_clusters import RayPods
from support.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def cluster() -> Iterator[RayPods]:
    """A head, and three nodes of one CPU each."""
    with ray_clusters.running_pods(4) as made:
        yield made


def test_a_node_with_a_worker(workspace: Workspace, cluster: RayPods) -> None:
    workspace.environment |= {"RAY_ADDRESS": f"127.0.0.1:{cluster.port}", **cluster.access}
    changes = ("-s", "worker.cpus=1", "-s", "steps=600", "-s", "checkpoint.every_steps=500", "-s", "retries=0")
    process = workspace.start("train", "run.yaml", *changes, "--name", "moves", "--json")
    run = workspace.wait_for("moves", lambda run: run["step"] >= 20)
    workers = run["attempts"][0]["workers"]
    assert len({worker["node"] for worker in workers}) == 2
    cluster.delete(cluster.pod_of(workers[1]["pid"]))
    done = workspace.end_of(process)
    assert done.code == 0, done.err
    first, second = done.document["attempts"]
    assert (done.document["state"], first["reason"], second["reason"]) == ("succeeded", "a node was taken away", "succeeded")
    assert run["step"] <= first["saved"] < 500, "it saved when it was asked"
    events = [event["message"] for event in done.document["events"]]
    assert f"a node is being taken away: saved at step {first['saved']}" in events
    assert f"training begins at step {first['saved']} of 600" in events
    assert workers[1]["node"] not in {worker["node"] for worker in second["workers"]}
    steps = [row["step"] for row in done.document["history"]]
    assert steps == sorted(set(steps))
