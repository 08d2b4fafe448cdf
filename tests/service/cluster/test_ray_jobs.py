"""How jobs are made, numbered, taken over and judged. The dashboard is played, for what a real one cannot be made to do in time."""

import json
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.random_jobs import JOBS

from service.cluster import ray_jobs
from service.cluster.base import Job
from service.cluster.dashboard_http import DashboardHttp
from service.cluster.jobs_api import JobsApi
from service.cluster.ray_jobs import RayJobHandle, RayJobs, number_of, submission_id
from service.errors import ClusterUnreachable, Damaged, InfrastructureFailure, InvalidInput
from service.records import user_package
from service.settings import Settings
from service.specs.parts import Resources
from service.storage import open_store

HERE = {"node_ip": "127.0.0.1", "resources_total": {"CPU": 2.0}}
ELSEWHERE = {"node_ip": "203.0.113.7", "resources_total": {"CPU": 2.0}}


class Dashboard(JobsApi):
    """Keeps jobs in memory; `before_submit` is what somebody else does just before a submission arrives."""

    def __init__(self, *nodes: dict[str, Any], fixed: bool = True) -> None:
        super().__init__("http://head:8265", None)
        self.kept: dict[str, dict[str, Any]] = {}
        self.there = list(nodes) or [HERE]
        self.fixed = fixed
        self.away: Exception | None = None
        self.before_submit: list[dict[str, Any]] = []

    def nodes(self) -> list[dict[str, Any]]:
        return self.there

    def has_fixed_size(self) -> bool:
        return self.fixed

    def jobs(self) -> list[dict[str, Any]]:
        return list(self.kept.values())

    def job(self, submission_id: str) -> dict[str, Any] | None:
        if self.away:
            raise self.away
        return self.kept.get(submission_id)

    def submit(self, document: dict[str, Any]) -> bool:
        for other in self.before_submit:
            self.kept[other["submission_id"]] = other
        self.before_submit = []
        if document["submission_id"] in self.kept:
            return False
        self.kept[document["submission_id"]] = {**document, "status": "PENDING"}
        return True

    def stop(self, submission_id: str) -> None:
        self.kept[submission_id]["status"] = "STOPPED"

    def logs(self, submission_id: str) -> str:
        return f"the log of {submission_id}"


def settings(**flags: Any) -> Settings:
    return Settings.load(**{"store": "s3://bucket/lab", "cluster": "http://head:8265", **flags})


def job(folder: Path, chosen: Settings | None = None, modules: tuple[str, ...] = ()) -> Job:
    return Job("train", "a-run", (chosen or settings()).store, folder, modules=modules)


def start(place: RayJobs, wanted: Job) -> RayJobHandle:
    return place.start(place.request(wanted))


def test_the_command_runs_by_the_clusters_python(tmp_path: Path) -> None:
    chosen = settings(store="s3://bucket/c d")
    sent = RayJobs(Dashboard(), chosen).request(replace(job(tmp_path, chosen), resume=True)).sent
    assert sent["entrypoint"] == "exec python -P -m jobs.train --run a-run --store 's3://bucket/c d' --folder . --resume"


def test_a_supervisor_becomes_a_job_as_well(tmp_path: Path) -> None:
    sent = RayJobs(Dashboard(), settings()).request(replace(job(tmp_path), supervised=True, retries=3)).sent
    assert sent["entrypoint"] == (
        "exec python -P -m service.submission.detached --kind train --retries 3 --run a-run --store s3://bucket/lab --folder ."
    )


class Wire:
    """What goes to a dashboard, byte for byte; `taken` are the submissions that somebody else made meanwhile."""

    def __init__(self, *taken: str) -> None:
        self.taken = taken
        self.posted: list[bytes] = []

    def request(
        self, method: str, path: str, data: bytes | None = None, *, seconds: float, most: int | None = None
    ) -> tuple[int, bytes]:
        if method == "GET":
            name = path.rpartition("/")[2]
            ended = {"submission_id": name, "status": "FAILED"}
            return (200, json.dumps(ended if name else []).encode()) if name in ("", *self.taken) else (404, b"")
        self.posted.append(data or b"")
        return (400, b"") if json.loads(data or b"")["submission_id"] in self.taken else (200, b"{}")


@given(JOBS, st.integers(0, 2))
def test_what_is_shown_is_what_is_sent_byte_for_byte(wanted: Job, others: int) -> None:
    """But for the number, where others have taken it by then."""
    chosen = settings(store=wanted.store_url, ring_timeout=77.0)
    wire = Wire(*(submission_id(wanted.run_id, number + 1) for number in range(others)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(DashboardHttp, "request", lambda _, *arguments, **limits: wire.request(*arguments, **limits))
        patched.setattr(JobsApi, "nodes", lambda _: [HERE])
        place = RayJobs(JobsApi("http://head:8265", None), chosen)
        request = place.request(wanted)
        assert not wire.posted
        place.start(request)
    shown = request.document()["submission"]
    assert shown.pop("upload") == {"files": [], "bytes": 0}
    assert json.loads(wire.posted[0])["entrypoint"].split(" ", 1)[1] == shlex.join(request.document()["command"])
    for number, posted in enumerate(wire.posted):
        assert posted == json.dumps(shown | {"submission_id": submission_id(wanted.run_id, number + 1)}).encode()
    assert len(wire.posted) == others + 1


def test_code_that_changes_after_it_was_shown_is_sent_as_it_was_shown(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("A = 1\n")
    dashboard, chosen = Dashboard(), settings(store=f"file://{tmp_path}/store")
    place, store = RayJobs(dashboard, chosen), open_store(chosen)
    request = place.request(job(tmp_path, chosen, modules=("nets",)))
    shown = request.document()
    (tmp_path / "nets.py").unlink()
    place.start(request)
    assert request.document() == shown
    user_package.check(store, shown["command"][-1])
    assert shown["submission"]["upload"]["bytes"] == 6


def test_nothing_of_the_clients_environment_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN", "MY_PASSWORD"):
        monkeypatch.setenv(name, "hush-hush")
    monkeypatch.setenv("DELAYLINE_CACHE", "/home/me/cache")
    monkeypatch.setenv("DELAYLINE_RING_TIMEOUT", "77")
    chosen, dashboard = settings(), Dashboard()
    start(RayJobs(dashboard, chosen), job(tmp_path, chosen))
    (sent,) = dashboard.jobs()
    assert "hush" not in json.dumps(sent)
    assert "/home/me" not in json.dumps(sent)
    assert sent["runtime_env"]["env_vars"] == {
        "RAY_JOB_STOP_WAIT_TIME_S": "100",
        "DELAYLINE_CLUSTER": "",
        "PYTHONSAFEPATH": "1",
        "DELAYLINE_RING_TIMEOUT": "77.0",
    }


def test_the_users_code_goes_into_the_store_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("A = 1\n")
    dashboard, chosen = Dashboard(), settings(store=f"file://{tmp_path}/store")
    store = open_store(chosen)
    place = RayJobs(dashboard, chosen)
    wanted = job(tmp_path, chosen, modules=("nets",))
    request = place.request(wanted)
    preview = request.document()["submission"]
    key = preview["upload"].pop("key")
    assert preview["upload"] == {"files": ["nets.py"], "bytes": 6}
    assert not list(store.objects(""))
    place.start(request)
    (sent,) = dashboard.jobs()
    reference = key.replace("packages/", "package:").removesuffix(".zip")
    assert f"--folder {reference}" in sent["entrypoint"] and "-P -m jobs.train" in sent["entrypoint"]
    assert sent["entrypoint"] == preview["entrypoint"] and "working_dir" not in sent["runtime_env"]
    assert {info.key for info in store.objects("")} == {key, "runs/a-run/package.json"}
    # Before anybody imports from it, it is looked at.
    user_package.check(store, reference)
    store.write(key, store.read(key)[:-1])
    with pytest.raises(Damaged, match="submit the run again"):
        user_package.check(store, reference)


def test_data_that_is_asked_for_is_previewed_and_sent_and_a_secret_is_refused_before(tmp_path: Path) -> None:
    for name in ("nets.py", "words.txt", "credentials.json", ".env"):
        (tmp_path / name).write_text("top secret" if name != "nets.py" else "")
    dashboard = Dashboard()
    place, wanted = RayJobs(dashboard, settings()), job(tmp_path, modules=("nets",))
    asked = replace(wanted, data=("*.txt",))
    assert place.request(wanted).document()["submission"]["upload"]["files"] == ["nets.py"]
    assert place.request(asked).document()["submission"]["upload"]["files"] == ["nets.py", "words.txt"]
    place.check_code(asked)
    for call in (place.check_code, place.request):
        with pytest.raises(InvalidInput, match=r"credentials\.json has the name of a secret"):
            call(replace(wanted, data=("*.json",)))
    assert not dashboard.jobs()


@pytest.mark.parametrize(
    "identity", ["delayline-a-run-0", "delayline-a-run-", "delayline-a-run-x", "raysubmit_1", "delayline-a-run-1-2"]
)
def test_ids_of_others(identity: str) -> None:
    assert number_of("a-run", identity) == 0


@pytest.mark.parametrize("number", [1, 9, 10, 12345])
def test_an_id_holds_its_number(number: int) -> None:
    assert number_of("a-run", submission_id("a-run", number)) == number
    assert number_of("run", submission_id("a-run", number)) == 0


def test_each_start_has_the_next_number(tmp_path: Path) -> None:
    dashboard = Dashboard()
    place = RayJobs(dashboard, settings())
    for number in (1, 2):
        start(place, job(tmp_path))
        dashboard.kept[submission_id("a-run", number)]["status"] = "FAILED"
    dashboard.kept["delayline-a-run-2-9"] = {"submission_id": "delayline-a-run-2-9", "status": "FAILED"}
    start(RayJobs(dashboard, settings()), job(tmp_path))
    assert [name for name in dashboard.kept if number_of("a-run", name)] == [submission_id("a-run", n) for n in (1, 2, 3)]


def test_a_job_that_waits_or_that_another_client_starts_is_taken(tmp_path: Path) -> None:
    dashboard = Dashboard()
    first = RayJobs(dashboard, settings())
    start(first, job(tmp_path))
    second = RayJobs(dashboard, settings())
    request = second.request(job(tmp_path))
    assert request.document()["submission"]["submission_id"] == "delayline-a-run-1"
    second.start(request)
    assert list(dashboard.kept) == ["delayline-a-run-1"]
    dashboard.kept["delayline-a-run-1"]["status"] = "FAILED"
    dashboard.before_submit = [{"submission_id": "delayline-a-run-2", "status": "RUNNING", "entrypoint": "python"}]
    start(first, job(tmp_path))
    assert list(dashboard.kept) == ["delayline-a-run-1", "delayline-a-run-2"]


def test_finds_the_job_that_lives(tmp_path: Path) -> None:
    dashboard = Dashboard()
    place = RayJobs(dashboard, settings())
    assert place.find("a-run") is None
    start(place, job(tmp_path))
    found = place.find("a-run")
    assert found
    assert found.poll() is None
    dashboard.kept["delayline-a-run-1"] |= {"status": "FAILED", "driver_exit_code": 3}
    assert place.find("a-run") is None
    assert RayJobs(dashboard, settings()).find("another") is None


@pytest.mark.parametrize("failure", [ClusterUnreachable("no answer"), InfrastructureFailure("status 500")])
def test_a_silent_cluster_is_given_up_and_a_short_silence_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    monkeypatch.setattr(ray_jobs, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(ray_jobs, "AWAY_SECONDS", 0.3)
    dashboard = Dashboard()
    handle = start(RayJobs(dashboard, settings()), job(tmp_path))
    assert handle.poll() is None
    dashboard.away = failure
    assert handle.poll() is None
    dashboard.away = None
    time.sleep(0.4)
    assert handle.poll() is None
    dashboard.away = failure
    time.sleep(0.4)
    with pytest.raises(ClusterUnreachable, match=r"runs watch a-run.*--cluster resumes from the last checkpoint"):
        handle.poll()


def test_a_cluster_that_forgot_the_job_is_another_one(tmp_path: Path) -> None:
    dashboard = Dashboard()
    handle = start(RayJobs(dashboard, settings()), job(tmp_path))
    dashboard.kept.clear()
    with pytest.raises(ClusterUnreachable, match="knows no job delayline-a-run-1 any more"):
        handle.poll()


def test_a_job_that_is_stopped_ends_and_what_it_printed_is_kept(tmp_path: Path) -> None:
    dashboard = Dashboard()
    handle = start(RayJobs(dashboard, settings()), job(tmp_path))
    handle.stop()
    assert handle.poll() == 130
    assert handle.output() == "the log of delayline-a-run-1"
    supervisor = start(RayJobs(dashboard, settings()), replace(job(tmp_path), supervised=True))
    assert supervisor.output() == ""


@pytest.mark.parametrize("module", ["service.cluster.detached", "service.submission.detached"])
def test_a_supervisor_that_an_older_version_submitted_is_known_by_what_it_runs(module: str) -> None:
    """Such jobs say nothing of it in their metadata; a driver's output is shown, a supervisor's few lines are Ray's own."""
    dashboard = Dashboard()
    kept = {"status": "RUNNING", "metadata": {"delayline_run": "a-run"}}
    words = f"--run a-run --store 's3://bucket/c d' --folder {module}"
    for number, started in ((1, module), (2, "jobs.train")):
        name = submission_id("a-run", number)
        dashboard.kept = {name: {**kept, "submission_id": name, "entrypoint": f"exec python -m {started} {words}"}}
        handle = RayJobs(dashboard, settings()).find("a-run")
        assert handle and handle.output() == ("" if started == module else f"the log of {name}")


def test_a_folder_of_this_machine_is_no_store_for_other_nodes(tmp_path: Path) -> None:
    near, far = Dashboard(HERE), Dashboard(HERE, ELSEWHERE)
    RayJobs(near, settings(store="./store")).check_store("/home/me/store")
    RayJobs(far, settings()).check_store("s3://bucket/lab")
    RayJobs(far, settings(store="file:///shared/store")).check_store("/shared/store")
    with pytest.raises(InvalidInput, match=r"others \(127.0.0.1, 203.0.113.7\): use s3.*--store file:///home/me/store"):
        RayJobs(far, settings(store="./store")).check_store("/home/me/store")


@pytest.mark.parametrize(
    ("endpoint", "node", "store"),
    [
        ("http://localhost:9000", HERE, "s3://bucket/lab?endpoint_override=http://localhost:9000"),
        ("http://localhost:9000", ELSEWHERE, "s3://bucket/lab"),
        ("http://minio:9000", ELSEWHERE, "s3://bucket/lab?endpoint_override=http://minio:9000"),
    ],
)
def test_an_endpoint_on_the_clients_own_loopback_stays_there(
    tmp_path: Path, endpoint: str, node: dict[str, Any], store: str
) -> None:
    chosen = settings(s3_endpoint=endpoint)
    made = replace(job(tmp_path), store_url=f"s3://bucket/lab?endpoint_override={endpoint}")
    command = RayJobs(Dashboard(node), chosen).request(made).document()["command"]
    assert command[command.index("--store") + 1] == store


def test_only_a_cluster_of_fixed_size_is_measured() -> None:
    with pytest.raises(InvalidInput, match="3 workers need 3 CPUs"):
        RayJobs(Dashboard(HERE), settings()).check_resources(3, Resources())
    RayJobs(Dashboard(HERE), settings()).check_resources(2, Resources())
    RayJobs(Dashboard(HERE, fixed=False), settings()).check_resources(3, Resources())
