"""Nodes of a Ray cluster are taken away as Kubernetes does it: SIGTERM, and no more for some seconds."""

from collections.abc import Iterator

import psutil
import pytest
from support import ray_clusters
from support.ray_clusters import RayPods
from support.workspace import Workspace, command_of

from service.records.run_record import RunRecord

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


SWEEP = """
base: run.yaml
space:
  optimizer.learning_rate.initial: {grid: [0.001, 0.003]}
"""


def test_the_head_with_the_driver_of_a_sweep(workspace: Workspace) -> None:
    """As in Kubernetes: the trials save, the job of the sweep waits to be killed, and the next driver resumes all of it."""
    (workspace.folder / "sweep.yaml").write_text(SWEEP)
    shared, store = workspace.environment, f"file://{workspace.store_url}"
    changes = ("-s", "base.worker.cpus=1", "-s", "base.steps=400", "-s", "base.checkpoint.every_steps=300")
    command = ("sweep", "sweep.yaml", *changes, "--name", "heads", "--json", "--store", store)
    # The driver is told that it is in a pod, and looks at nothing else of that.
    with ray_clusters.running_pods(3, KUBERNETES_SERVICE_HOST="127.0.0.1") as cluster:
        workspace.environment = {**shared, **cluster.access}
        workspace.start(*command, "--cluster", cluster.url)

        def train(sweep: dict) -> bool:
            return [workspace.show(trial["id"])["step"] >= 20 for trial in sweep["trials"]] == [True, True]

        workspace.wait_for("heads", train)
        driver = driver_of("heads")
        cluster.delete(0)
        stopped = workspace.wait_for("heads", lambda sweep: sweep["state"] == "retrying")
        assert RunRecord(workspace.store, "heads").state().was_interrupted
        saved = [workspace.show(trial["id"])["checkpoints"][-1]["step"] for trial in stopped["trials"]]
        assert all(20 <= step < 300 for step in saved), "they saved when they were asked"
        assert driver.is_running(), "its end would be that of the job"
    workspace.environment = shared
    done = workspace.delayline(*command)
    assert done.code == 0, done.err
    assert [trial["state"] for trial in done.document["trials"]] == ["succeeded"] * 2
    for trial in done.document["trials"]:
        steps = [row["step"] for row in workspace.show(trial["id"])["history"]]
        assert steps == sorted(set(steps))


def driver_of(sweep: str) -> psutil.Process:
    """The process that drives it in the cluster."""
    found = [one for one in psutil.process_iter() if "-m jobs.sweep" in command_of(one) and f"--run {sweep} " in command_of(one)]
    return next(one for one in found if "exec" not in command_of(one))
