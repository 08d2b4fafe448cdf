"""An elastic run in a Ray cluster of its own asks for the workers that it lacks, has their room held, and does not wait for them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from support import ray_clusters
from support.ray_clusters import RayPods
from support.workspace import Workspace, family, kill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TELLS = """
import json, sys
import ray
from ray.util.placement_group import placement_group_table

ray.init(address=sys.argv[1], log_to_driver=False)
for line in sys.stdin:
    groups = [(group["state"], len(group["bundles"])) for group in placement_group_table().values()]
    print(json.dumps(sorted(group for group in groups if group[0] != "REMOVED")), flush=True)
"""

Look = Callable[[], list[tuple[str, int]]]


@pytest.fixture
def cluster() -> Iterator[RayPods]:
    """A head, and one node of one CPU."""
    with ray_clusters.running_pods(2) as made:
        yield made


@pytest.fixture
def look(cluster: RayPods) -> Iterator[Look]:
    """Tells the placement groups of the cluster: state and bundles of each."""
    command = [sys.executable, "-c", TELLS, f"127.0.0.1:{cluster.port}"]
    environment = {**os.environ, **cluster.access, "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def asked() -> list[tuple[str, int]]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            # Ray tells there of nodes that are lost, too.
            told = next(line for line in process.stdout if line.startswith("["))
            return [(state, bundles) for state, bundles in json.loads(told)]

        yield asked
        process.kill()


def until(look: Look, groups: list[tuple[str, int]]) -> None:
    end = time.monotonic() + 60
    while (found := look()) != groups:
        assert time.monotonic() < end, found
        time.sleep(0.2)


def test_the_others_are_asked_for_and_held_and_a_lost_node_is_not_waited_for(
    workspace: Workspace, cluster: RayPods, look: Look
) -> None:
    workspace.environment |= {
        "RAY_ADDRESS": f"127.0.0.1:{cluster.port}",
        "DELAYLINE_ASK_FOR_MORE": "1",
        **cluster.access,
    }
    changes = ("--workers", "1-2", "-s", "worker.cpus=1", "-s", "steps=600")
    process = workspace.start("train", "run.yaml", *changes, "--name", "asks", "--json")
    run = workspace.wait_for_step("asks", 20)
    assert look() == [("CREATED", 1), ("PENDING", 1)], "that of the worker, and what an autoscaler sees"

    cluster.add_node(f"--address=127.0.0.1:{cluster.port}")
    until(look, [("CREATED", 1), ("CREATED", 1)])
    kill([psutil.Process(run["attempts"][0]["workers"][0]["pid"])])
    run = workspace.wait_for("asks", lambda run: len(run["attempts"]) == 2 and len(run["attempts"][1]["workers"]) == 2)
    assert look() == [("CREATED", 2)], "what was held is the new worker's, and nothing more is asked for"

    kill(family(cluster.pods[cluster.pod_of(run["attempts"][1]["workers"][1]["pid"])].pid))
    run = workspace.wait_for("asks", lambda run: len(run["attempts"]) == 3 and len(run["attempts"][2]["workers"]) == 1)
    assert "waiting" not in [event["event"] for event in run["events"]]
    until(look, [("CREATED", 1), ("PENDING", 1)])
    done = workspace.end_of(process)
    assert done.code == 0, done.err
    steps = [row["step"] for row in done.document["history"]]
    assert steps == sorted(set(steps))
