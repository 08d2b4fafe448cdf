"""What surrounds Ray: its environment, signals, and the end of a cluster; tests/integration runs it whole."""

import os
import signal
import subprocess
import sys
from typing import Any

import psutil
import pytest

from jobs.worker_groups.joined import JoinedCluster
from jobs.worker_groups.ray_cluster import LOCAL_WAIT, RayCluster, kill_local_ray, local_ray_lives, own_sigterm
from service.errors import InfrastructureFailure
from service.settings import Settings


@pytest.mark.parametrize("module", ["jobs.train", "jobs.sweep"])
def test_a_driver_does_not_import_ray_before_rays_environment_is_set(module: str) -> None:
    # Ray reads most of RAY_ENVIRONMENT when it is imported: under `uv run` it would else make an environment for each process.
    code = f"import sys, {module}; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"


def test_starting_ray_keeps_the_drivers_handler_of_sigterm() -> None:
    """Also while it starts: Ray's own ends the process at once, and nothing is saved."""
    import ray._private.utils

    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with own_sigterm():
            ray._private.utils.set_sigterm_handler(lambda *_: sys.exit(1))
            os.kill(os.getpid(), signal.SIGTERM)
            # As Ray's library does, without Python.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM] * 2


class Child:
    """A process as psutil shows it, which is gone at the look `ends`."""

    def __init__(self, name: str, status: str = psutil.STATUS_SLEEPING, ends: int = 99) -> None:
        self._name, self._status, self._left = name, status, ends
        self.killed = False

    def name(self) -> str:
        return self._looked(self._name)

    def status(self) -> str:
        return self._looked(self._status)

    def kill(self) -> None:
        self._looked("")
        self.killed = True

    def _looked(self, answer: str) -> str:
        self._left -= 1
        if self._left < 1:
            raise psutil.NoSuchProcess(1, self._name)
        return answer


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(psutil.Process, "children", lambda self, recursive: found)
    return found


@pytest.mark.parametrize("ends", [1, 2, 3])
def test_a_process_that_ends_while_it_is_looked_at_says_nothing_of_ray(children: list[Any], ends: int) -> None:
    children += [Child("raylet"), Child("uname", ends=ends), Child("gcs_server")]
    assert local_ray_lives()
    kill_local_ray()
    assert [child.killed for child in children] == [True, False, True]


@pytest.mark.parametrize("lost", [[], [Child("raylet", psutil.STATUS_ZOMBIE)], [Child("raylet", ends=1)], [Child("ray::IDLE")]])
def test_ray_is_lost_without_either_of_its_servers(children: list[Any], lost: list[Any]) -> None:
    children += [Child("gcs_server"), *lost]
    assert not local_ray_lives()


def test_a_cluster_that_died_is_killed_at_the_end_of_its_block(children: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own way to leave it takes 15 s, or for ever."""
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "shutdown", lambda: pytest.fail("Ray is asked to leave"))
    children += [Child("raylet"), Child("ray::IDLE")]
    with RayCluster.of(Settings(ray_address=None)) as cluster:
        assert not cluster.is_alive()
    assert [child.killed for child in children] == [True, True]


def test_another_cluster_is_left_and_the_one_that_a_process_belongs_to_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    left: list[str] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "shutdown", lambda: left.append("left"))
    with JoinedCluster(Settings(), local=True) as joined:
        assert joined.is_alive() and joined.is_connected
    assert left == []
    with RayCluster.of(Settings(ray_address="ray-head:6379")) as cluster:
        assert cluster.is_alive() and not cluster.local
    assert left == ["left"]


def test_a_ray_that_does_not_start_is_a_failure_to_wait_for_and_leaves_nothing(
    children: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray raises bare errors, as for a node that does not start in time; what did start would stay beside the next try."""

    def starts_half(*_: Any, **__: Any) -> None:
        children.append(Child("gcs_server"))
        raise RuntimeError("the node took too long")

    monkeypatch.setattr("jobs.worker_groups.lean_ray.start_local_ray", starts_half)
    with pytest.raises(InfrastructureFailure, match="the node took too long"):
        RayCluster(Settings(), local=True).connect(1)
    assert [child.killed for child in children] == [True]


def test_no_room_will_come_on_this_machine() -> None:
    settings = Settings(wait_limit=9000.0)
    assert RayCluster(settings, local=True).wait_limit == LOCAL_WAIT
    assert RayCluster(settings, local=False).wait_limit == 9000.0
