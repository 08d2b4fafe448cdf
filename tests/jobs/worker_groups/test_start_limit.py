"""A start that hangs ends; tests/integration/test_failures.py has a real Ray that does."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.worker_groups import ray_train
from jobs.worker_groups.ray_cluster import RayCluster
from jobs.worker_groups.ray_train import RayAttempt, WorkersStandStill
from jobs.worker_groups.start_limit import START_SECONDS, start_limit
from service.settings import Settings
from service.specs.train import TrainSpec

MakeSpec = Callable[..., TrainSpec]


def limited(seconds: float, block: str) -> "subprocess.CompletedProcess[str]":
    code = f"import ctypes\nfrom jobs.worker_groups.start_limit import limited\nwith limited({seconds}):\n    {block}\nprint('in time')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_what_ends_in_time_is_left_alone() -> None:
    done = limited(60, "pass")
    assert (done.returncode, done.stdout, done.stderr) == (0, "in time\n", "")


def test_what_hangs_with_pythons_lock_in_its_hand_is_ended_with_its_stack() -> None:
    done = limited(0.5, "ctypes.PyDLL(None).sleep(600)")
    assert (done.returncode, done.stdout) == (1, "")
    assert 'File "<string>", line 4' in done.stderr


def test_a_user_who_waits_less_for_room_waits_less_for_a_start() -> None:
    assert [start_limit(waits) for waits in (20, 1800)] == [20, START_SECONDS]


@pytest.fixture
def cluster(tmp_path: Path) -> RayCluster:
    cluster = RayCluster(Settings.load(store=str(tmp_path / "store")), local=False)
    cluster.wait_limit = 0.2
    return cluster


def start(monkeypatch: pytest.MonkeyPatch, spec: TrainSpec, cluster: RayCluster, fit: Callable[..., None]) -> RayAttempt:
    monkeypatch.setattr(ray_train, "fit", fit)
    config: Any = None
    return RayAttempt(spec, config, cluster, 0.0)


def test_workers_that_stand_still_before_they_begin_end_the_attempt_and_the_cluster_is_abandoned(
    monkeypatch: pytest.MonkeyPatch, make_spec: MakeSpec, cluster: RayCluster
) -> None:
    for_ever = threading.Event()
    attempt = start(monkeypatch, make_spec(), cluster, lambda *_: for_ever.wait())
    assert cluster.is_alive()
    while not attempt.wait(0.01):
        assert attempt.error is None
    assert isinstance(attempt.error, WorkersStandStill)
    assert not cluster.is_alive()
    for_ever.set()


def test_workers_that_began_have_no_limit_here(monkeypatch: pytest.MonkeyPatch, make_spec: MakeSpec, cluster: RayCluster) -> None:
    end = threading.Event()

    def fit(*arguments: Any) -> None:
        arguments[-1]()
        end.wait()

    attempt = start(monkeypatch, make_spec(), cluster, fit)
    assert not attempt.wait(0.6)
    assert cluster.is_alive()
    end.set()
    assert attempt.wait(60)
    assert attempt.error is None
