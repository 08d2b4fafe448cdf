import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from service.cluster import open_cluster
from service.cluster.base import Job
from service.cluster.driver_jobs import driver_job, supervisor_job
from service.cluster.local_ray import LocalRay
from service.errors import InfrastructureFailure, InvalidInput
from service.settings import Settings, process_environment
from service.specs.train import Resources


def job(tmp_path: Path, code: str) -> Job:
    return Job("a-run", (sys.executable, "-c", code), tmp_path, process_environment())


def test_keeps_what_a_job_prints_until_it_is_forgotten(tmp_path: Path) -> None:
    handle = LocalRay(tmp_path / "logs").start(
        job(tmp_path, "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    )
    while handle.poll() is None:
        time.sleep(0.02)
    assert handle.poll() == 3
    assert {"out", "err"} <= set(handle.output().split())
    handle.forget()
    assert handle.output() == ""


def test_a_job_has_a_session_of_its_own(tmp_path: Path) -> None:
    handle = LocalRay(tmp_path / "logs").start(job(tmp_path, "import time; time.sleep(60)"))
    try:
        assert os.getsid(handle.pid) == handle.pid
    finally:
        handle.stop()


def test_stop_ends_a_job_that_will_not_and_its_children(tmp_path: Path) -> None:
    code = "import signal, subprocess, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    code += "child = subprocess.Popen(['sleep', '60'], start_new_session=True)\nprint(child.pid, flush=True)\ntime.sleep(60)"
    handle = LocalRay(tmp_path / "logs").start(job(tmp_path, code))
    while not handle.output().strip():
        time.sleep(0.02)
    child = psutil.Process(int(handle.output()))
    handle.stop(grace=0.2)
    assert handle.poll() == -signal.SIGKILL
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_stop_ends_what_a_dead_job_left_behind(tmp_path: Path) -> None:
    code = "import os, subprocess\nchild = subprocess.Popen(['sleep', '60'], process_group=0)\nprint(child.pid, flush=True)\nos.kill(os.getpid(), 9)"
    handle = LocalRay(tmp_path / "logs").start(job(tmp_path, code))
    while handle.poll() is None:
        time.sleep(0.02)
    child = psutil.Process(int(handle.output()))
    assert child.is_running()
    handle.stop()
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureFailure, match="could not be started"):
        LocalRay(tmp_path / "logs").start(job(tmp_path / "gone", "pass"))


def test_the_supervisor_takes_the_options_of_its_driver(tmp_path: Path) -> None:
    driver = driver_job(Settings.load(store="file:///s"), "train", "a-run", "file:///s", tmp_path, True, '{"a": 1}')
    assert driver.argv[:4] == (sys.executable, "-P", "-m", "jobs.train")
    supervisor = supervisor_job(driver, 3)
    assert supervisor.argv[1:8] == ("-P", "-m", "service.submission.detached", "--kind", "train", "--retries", "3")
    assert supervisor.argv[8:] == driver.argv[4:]
    done = subprocess.run([*supervisor.argv[:4], "--help"], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_cluster_that_exists_is_not_measured_by_this_machine(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        LocalRay(tmp_path).check_resources(100_000, Resources())
    LocalRay(tmp_path, "ray://head:10001").check_resources(100_000, Resources())


def test_a_dashboards_address_opens_a_ray_cluster_and_is_asked_nothing_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert open_cluster(Settings.load(cluster="http://head:8265/")).description == "the Ray cluster at http://head:8265"


@pytest.mark.parametrize("url", ["kube://team", "ssh://host", "nonsense"])
def test_other_clusters_are_refused_by_a_sentence(url: str) -> None:
    with pytest.raises(InvalidInput, match="leave --cluster out"):
        open_cluster(Settings.load(cluster=url))
