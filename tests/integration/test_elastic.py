"""A run on a Ray cluster of two nodes continues with one worker when a node is lost."""

from collections.abc import Iterator

import pytest
from support import ray_clusters
from support.ray_clusters import RayCluster
from support.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def cluster() -> Iterator[RayCluster]:
    """Two nodes of one CPU each."""
    with ray_clusters.running() as made:
        yield made


def test_a_lost_node(workspace: Workspace, cluster: RayCluster) -> None:
    workspace.environment |= {"RAY_ADDRESS": f"127.0.0.1:{cluster.port}", **cluster.access}
    process = workspace.start("train", "run.yaml", "--workers", "1-2", "-s", "worker.cpus=1", "--name", "elastic", "--json")
    run = workspace.wait_for_step("elastic", 20)
    assert len(run["attempts"][0]["workers"]) == 2
    cluster.kill_node(1)
    done = workspace.end_of(process)
    assert done.code == 0, done.err
    attempts = done.document["attempts"]
    assert done.document["state"] == "succeeded"
    assert len(attempts[-1]["workers"]) == 1, attempts
    steps = [row["step"] for row in done.document["history"]]
    assert steps == sorted(set(steps))
    assert set(range(10, 161, 10)) <= set(steps)
