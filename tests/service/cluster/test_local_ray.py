import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from service.cluster import open_cluster
from service.cluster.base import Job
from service.cluster.driver_jobs import DRIVERS
from service.cluster.local_ray import DriverProcess, LocalRay
from service.cluster.ray_jobs import RayJobRequest
from service.errors import InfrastructureFailure, InvalidInput
from service.settings import Settings
from service.specs.parts import Resources

Start = Callable[[str], DriverProcess]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts a driver that does what the code says."""
    monkeypatch.setitem(DRIVERS, "train", "some_code")
    job = Job("train", "a-run", "/store", tmp_path, environment={"PYTHONPATH": str(tmp_path), "DELAYLINE_STORE": "/store"})

    def begin(code: str) -> DriverProcess:
        (tmp_path / "some_code.py").write_text(code)
        place = LocalRay(tmp_path / "logs")
        return place.start(place.request(job))

    return begin


def test_keeps_what_a_job_prints_until_it_is_forgotten(start: Start) -> None:
    handle = start("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    while handle.poll() is None:
        time.sleep(0.02)
    assert handle.poll() == 3
    assert {"out", "err"} <= set(handle.output().split())
    handle.forget()
    assert handle.output() == ""


def test_a_job_has_a_session_of_its_own(start: Start) -> None:
    handle = start("import time; time.sleep(60)")
    try:
        assert os.getsid(handle.pid) == handle.pid
    finally:
        handle.stop()


def test_stop_ends_a_job_that_will_not_and_its_children(start: Start) -> None:
    code = "import signal, subprocess, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    code += "child = subprocess.Popen(['sleep', '60'], start_new_session=True)\nprint(child.pid, flush=True)\ntime.sleep(60)"
    handle = start(code)
    while not handle.output().strip():
        time.sleep(0.02)
    child = psutil.Process(int(handle.output()))
    handle.stop(grace=0.2)
    assert handle.poll() == -signal.SIGKILL
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_stop_ends_what_a_dead_job_left_behind(start: Start) -> None:
    code = "import os, subprocess\nchild = subprocess.Popen(['sleep', '60'], process_group=0)\nprint(child.pid, flush=True)\nos.kill(os.getpid(), 9)"
    handle = start(code)
    while handle.poll() is None:
        time.sleep(0.02)
    child = psutil.Process(int(handle.output()))
    assert child.is_running()
    handle.stop()
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    place = LocalRay(tmp_path / "logs")
    with pytest.raises(InfrastructureFailure, match="could not be started"):
        place.start(place.request(Job("train", "a-run", "/store", tmp_path / "gone")))


def test_what_is_shown_is_what_runs(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = start("import json, os, sys; print(json.dumps([sys.orig_argv, os.getcwd(), dict(os.environ)]))")
    while handle.poll() is None:
        time.sleep(0.02)
    command, folder, environment = json.loads(handle.output())
    shown = LocalRay(tmp_path).request(Job("train", "a-run", "/store", tmp_path))
    assert command == shown.document()["command"]
    assert folder == str(shown.folder)
    assert (environment["PYTHONSAFEPATH"], environment["DELAYLINE_STORE"]) == ("1", "/store")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    secret = LocalRay(tmp_path).request(Job("train", "a-run", "/store", tmp_path))
    assert secret.environment["AWS_SECRET_ACCESS_KEY"] == "hush-hush"
    assert "hush" not in f"{secret}{secret.document()}"


def test_a_driver_whose_code_is_a_package_stands_where_its_supervisor_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    request = LocalRay(tmp_path).request(Job("train", "a-run", "/store", Path("package:abc")))
    assert request.folder == tmp_path
    assert request.argv[-2:] == ("--folder", "package:abc")


def test_what_another_cluster_would_start_is_not_started(tmp_path: Path) -> None:
    request = RayJobRequest(Job("train", "a-run", "/store", tmp_path), 1, ("python",), {})
    with pytest.raises(TypeError, match="of another cluster"):
        LocalRay(tmp_path).start(request)


def test_a_cluster_that_exists_is_not_measured_by_this_machine(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        LocalRay(tmp_path).check_resources(100_000, Resources())
    LocalRay(tmp_path, "ray://head:10001").check_resources(100_000, Resources())


def test_a_dashboards_address_opens_a_ray_cluster_and_is_asked_nothing_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert open_cluster(Settings.load(cluster="http://head:8265/")).description == "the Ray cluster at http://head:8265"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("kube://team", "no kubeconfig that can be used"),
        ("kube://", "kube://NAMESPACE"),
        ("ssh://host", "leave --cluster out"),
        ("nonsense", "leave --cluster out"),
    ],
)
def test_other_clusters_are_refused_by_a_sentence(url: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        open_cluster(Settings.load(cluster=url))
