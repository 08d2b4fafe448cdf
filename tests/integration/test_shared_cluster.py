"""Runs on a Ray cluster of two nodes that others use too: what those hold is waited for, and is no failure."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest
from support import ray_clusters
from support.ray_clusters import RayCluster
from support.workspace import Workspace, kill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HOLDS = """
import sys
import ray
from ray.util.placement_group import placement_group

ray.init(address=sys.argv[1], log_to_driver=False)
assert placement_group([{"CPU": 1.0}]).wait(60)
print("holds", flush=True)
sys.stdin.read()
"""
SMALL = ("-s", "worker.cpus=1", "-s", "retries=0", "--json")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """Two nodes of one CPU each."""
    with ray_clusters.running() as made:
        yield made


@contextlib.contextmanager
def another_job(cluster: RayCluster) -> Iterator[None]:
    """Holds one CPU of the cluster."""
    command = [sys.executable, "-c", HOLDS, f"127.0.0.1:{cluster.port}"]
    environment = {**os.environ, **cluster.access, "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        yield
        process.kill()


def test_a_run_waits_for_what_another_job_holds_and_begins_when_that_ends(workspace: Workspace, cluster: RayCluster) -> None:
    workspace.environment |= {"RAY_ADDRESS": f"127.0.0.1:{cluster.port}", **cluster.access}
    with another_job(cluster):
        process = workspace.start("train", "run.yaml", *SMALL, "-s", "steps=20", "--name", "waits")
        waiting = workspace.wait_for("waits", lambda run: run["waiting"] is not None)
        assert (waiting["state"], waiting["attempts"]) == ("starting", [])
        assert waiting["waiting"]["message"] == "1 of 2 workers have room; others hold 1 of 2 CPUs"
    done = workspace.end_of(process)
    assert done.code == 0, done.err
    assert [attempt["reason"] for attempt in done.document["attempts"]] == ["succeeded"]


def test_of_two_runs_that_see_the_same_room_one_has_it_and_the_other_waits(workspace: Workspace, cluster: RayCluster) -> None:
    workspace.environment |= {"RAY_ADDRESS": f"127.0.0.1:{cluster.port}", **cluster.access}
    processes = [workspace.start("train", "run.yaml", *SMALL, "-s", "steps=40", "--name", name) for name in ("one", "two")]
    ends = [workspace.end_of(process) for process in processes]
    assert [done.code for done in ends] == [0, 0], [done.err for done in ends]
    for done in ends:
        assert [(attempt["reason"], len(attempt["workers"])) for attempt in done.document["attempts"]] == [("succeeded", 2)]


def test_an_elastic_run_that_loses_a_worker_goes_on_with_as_many(workspace: Workspace, cluster: RayCluster) -> None:
    """What the lost attempt held is the run's own, also where it takes a moment to be free."""
    workspace.environment |= {"RAY_ADDRESS": f"127.0.0.1:{cluster.port}", **cluster.access}
    process = workspace.start("train", "run.yaml", "--workers", "1-2", "-s", "worker.cpus=1", "--name", "keeps", "--json")
    run = workspace.wait_for_step("keeps", 20)
    pid = run["attempts"][0]["workers"][1]["pid"]
    kill([psutil.Process(pid)])
    done = workspace.end_of(process)
    assert done.code == 0, done.err
    assert [len(attempt["workers"]) for attempt in done.document["attempts"]] == [2, 2]
