"""Nodes of a Ray cluster are taken away as Kubernetes does it: SIGTERM, and no more for some seconds."""

import os
import subprocess
import time
from collections.abc import Iterator

import pytest
from support import ray_clusters
from support.ray_clusters import RayPods
from support.workspace import BIN, COMMAND_SECONDS, Workspace

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


def test_a_cluster_whose_nodes_come_later(workspace: Workspace) -> None:
    """The run waits, uses up no retry, and Ray knows for what."""
    with ray_clusters.running_pods(1) as cluster:
        address = f"127.0.0.1:{cluster.port}"
        workspace.environment |= {"RAY_ADDRESS": address, **cluster.access}
        process = workspace.start("train", "run.yaml", "-s", "worker.cpus=1", "-s", "retries=0", "--name", "early", "--json")
        waiting = workspace.wait_for("early", lambda run: run["waiting"])
        assert (waiting["state"], waiting["waiting"]["message"]) == ("starting", "0 of 2 workers have room")
        status = [BIN / "ray", "status", "--address", address]
        end = time.monotonic() + 60
        said = ""
        while "pending placement groups" not in said and time.monotonic() < end:
            said = subprocess.run(status, env={**os.environ, **cluster.access}, capture_output=True, text=True, timeout=60).stdout
        assert "{'CPU': 1.0} * 2 (PACK): 1+ pending placement groups" in said
        cluster.add_node(f"--address={address}")
        cluster.add_node(f"--address={address}")
        done = workspace.end_of(process)
        assert done.code == 0, done.err
        assert [attempt["reason"] for attempt in done.document["attempts"]] == ["succeeded"]
        waits = [event["message"] for event in done.document["events"] if event["event"] == "waiting"]
        assert waits[0] == "0 of 2 workers have room; waiting 0 s, 1800 s at most"


def test_the_head_with_the_driver(workspace: Workspace) -> None:
    """In Kubernetes the job's process does not end by itself; the same command on the cluster that follows continues the run."""
    workspace.store_url = f"file://{workspace.folder}/there"
    command = (
        "python",
        "-m",
        "jobs.train",
        "run.yaml",
        "-s",
        "steps=600",
        "-s",
        "checkpoint.every_steps=500",
        "-s",
        "worker.cpus=1",
    )
    command += ("--workers", "1", "--name", "head", "--store", workspace.store_url)

    def ray_job(cluster: RayPods, *arguments: str) -> str:
        environment = {**os.environ, **cluster.access, "RAY_API_SERVER_ADDRESS": cluster.url}
        done = subprocess.run(
            [BIN / "ray", "job", *arguments], cwd=workspace.folder, env=environment, capture_output=True, text=True,
            timeout=COMMAND_SECONDS,
        )  # fmt: skip
        return done.stdout + done.stderr

    submission = ("submit", "--submission-id=head", "--working-dir=.")
    with ray_clusters.running_pods(2, KUBERNETES_SERVICE_HOST="10.0.0.1") as cluster:
        submitted = ray_job(cluster, *submission, "--no-wait", "--", *command)
        assert "submitted successfully" in submitted
        run = workspace.wait_for("head", lambda run: run["step"] >= 20)
        cluster.delete(0)
        stopped = workspace.wait_for("head", lambda run: run["state"] == "retrying", seconds=30)
        assert run["step"] <= stopped["attempts"][0]["saved"] < 500
        assert "RUNNING" in ray_job(cluster, "status", "head")
    with ray_clusters.running_pods(2, KUBERNETES_SERVICE_HOST="10.0.0.1") as cluster:
        assert "succeeded" in ray_job(cluster, *submission, "--", *command)
    run = workspace.show("head")
    assert (run["state"], [attempt["reason"] for attempt in run["attempts"]]) == ("succeeded", ["signal", "succeeded"])
