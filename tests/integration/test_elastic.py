"""A run on a Ray cluster of two nodes goes on with one worker when a node is lost."""

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import s3_servers
from desk import Desk, family, kill

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent


def start_node(access: dict[str, str], *options: str) -> None:
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", **access}
    subprocess.run(
        [BIN / "ray", "start", *options, "--num-cpus=1", "--object-store-memory=80000000"],
        env=environment,
        check=True,
        timeout=120,
        capture_output=True,
    )


def ray_processes(folder: Path) -> set[psutil.Process]:
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(folder) in " ".join(process.cmdline()):
                found.add(process)
    return found


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], set[psutil.Process]]]:
    """The environment that reaches a cluster of two nodes, tokens on, and the second node's processes."""
    # Ray's sockets have short names only.
    folder = Path(tmp_path_factory.mktemp("r"))
    (port,) = s3_servers.free_ports(1)
    access = {"RAY_ADDRESS": f"127.0.0.1:{port}", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    try:
        start_node(
            access, "--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"
        )
        head = ray_processes(folder)
        start_node(access, f"--address=127.0.0.1:{port}")
        yield access, ray_processes(folder) - head
    finally:
        for process in ray_processes(folder):
            for child in family(process.pid):
                with contextlib.suppress(psutil.Error):
                    child.kill()


def test_a_lost_node(desk: Desk, cluster: tuple[dict[str, str], set[psutil.Process]]) -> None:
    access, second_node = cluster
    desk.environment |= access
    process = desk.start("train", "run.yaml", "--workers", "1-2", "-s", "worker.cpus=1", "--name", "elastic", "--json")
    run = desk.wait_for_step("elastic", 60)
    assert len(run["attempts"][0]["workers"]) == 2
    raylets = [node for node in second_node if node.name() == "raylet"]
    kill([child for raylet in raylets for child in family(raylet.pid)])
    done = desk.end_of(process)
    assert done.code == 0, done.err
    attempts = done.document["attempts"]
    assert done.document["state"] == "succeeded"
    assert len(attempts[-1]["workers"]) == 1, attempts
    steps = [row["step"] for row in done.document["history"]]
    assert steps == sorted(set(steps))
    assert set(range(10, 161, 10)) <= set(steps)
