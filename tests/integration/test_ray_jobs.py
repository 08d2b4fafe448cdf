"""Runs on a Ray cluster of two nodes, tokens on, by the plain Ray CLI and by `--cluster`; clients, drivers, a node and all of it are killed."""

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from support import ray_clusters, s3_servers
from support.ray_clusters import RayCluster
from support.workspace import BIN, COMMAND_SECONDS, Done, Workspace, command_of, kill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SECRET = "a-secret-of-the-client-alone"
SWEEP = """
base: run.yaml
space:
  optimizer.learning_rate.initial: {grid: [0.001, 0.003, 0.01]}
"""
HOLDS = """
import os

class Holds(keras.callbacks.Callback):
    # While the file is there, a step takes a second as soon as there was time for a checkpoint: `ray job stop` is in no hurry.
    def __init__(self, file):
        super().__init__()
        self.file, self.done = file, 0

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        if self.done > 25 and os.path.exists(self.file):
            time.sleep(1)
"""
LONG = ("run.yaml", "--workers", "1", "-s", "worker.cpus=1", "-s", "steps=2000")


@pytest.fixture(scope="module")
def cluster(seaweedfs: s3_servers.S3Server) -> Iterator[RayCluster]:
    """Two nodes of one CPU each, which have the store's credentials in their own environment."""
    with ray_clusters.running(RAY_JOB_STOP_WAIT_TIME_S="3", **seaweedfs.environment) as made:
        yield made


@pytest.fixture
def bucket(workspace: Workspace, cluster: RayCluster, seaweedfs: s3_servers.S3Server) -> Workspace:
    """A client of the cluster, with a bucket that its nodes reach too."""
    workspace.store_url = f"s3://{seaweedfs.bucket()}/lab?endpoint_override={seaweedfs.endpoint}"
    workspace.environment |= {**seaweedfs.environment, **cluster.access}
    return workspace


def ray(workspace: Workspace, cluster: RayCluster, *arguments: str) -> Done:
    """Run the plain Ray CLI."""
    environment = {**os.environ, **cluster.access, "RAY_API_SERVER_ADDRESS": cluster.url}
    done = subprocess.run(
        [BIN / "ray", "job", *arguments],
        cwd=workspace.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def jobs(cluster: RayCluster) -> dict[str, Any]:
    """What the Jobs API gives of each submission."""
    request = urllib.request.Request(f"{cluster.url}/api/jobs/", headers={"Authorization": f"Bearer {cluster.token}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return {job["submission_id"]: job for job in json.load(answer)}


def drivers(run_id: str, module: str = "jobs.train") -> list[psutil.Process]:
    """The processes that drive a run in the cluster, however it was submitted."""
    commands = [(process, f"{command_of(process)} ") for process in psutil.process_iter()]
    named = (f"--run {run_id} ", f"--name {run_id} ")
    return [
        process
        for process, command in commands
        if f"-m {module} " in command and any(name in command for name in named) and "exec" not in command
    ]


def test_the_ray_cli_submits_stops_and_resumes(bucket: Workspace, cluster: RayCluster) -> None:
    (bucket.folder / ".rayignore").write_text("*.txt\ncache\n")
    (bucket.folder / "nets.py").write_text((bucket.folder / "nets.py").read_text() + HOLDS)
    (hold := bucket.folder / "hold").touch()
    changes = ("-s", "worker.cpus=1", "-s", f"callbacks=[{{name: 'nets:Holds', file: '{hold}'}}]")
    command = ("python", "-m", "jobs.train", "run.yaml", *changes, "--name", "plain", "--store", bucket.store_url)
    submitted = ray(bucket, cluster, "submit", "--no-wait", "--submission-id=stopped", "--working-dir=.", "--", *command)
    assert submitted.code == 0, submitted.err
    bucket.wait_for_step("plain", 20)
    assert ray(bucket, cluster, "stop", "stopped").code == 0
    run = bucket.wait_for("plain", lambda run: run["state"] == "cancelled")
    assert 20 <= run["checkpoints"][-1]["step"] < 160
    again = ray(bucket, cluster, "submit", "--submission-id=unasked", "--working-dir=.", "--", *command)
    assert again.code == 1
    assert "add --resume to continue" in again.out
    hold.unlink()
    resumed = ray(bucket, cluster, "submit", "--submission-id=resumed", "--working-dir=.", "--", *command, "--resume")
    assert resumed.code == 0, resumed.out
    run = bucket.show("plain")
    assert run["state"] == "succeeded"
    assert [len(attempt["workers"]) for attempt in run["attempts"]] == [2, 2]
    steps = [row["step"] for row in run["history"]]
    assert steps == sorted(set(steps))
    refused = ray(bucket, cluster, "submit", "--submission-id=refused", "--", *command[:3], "no-such-recipe")
    assert refused.code == 1
    codes = {name: job["driver_exit_code"] for name, job in jobs(cluster).items()}
    assert (codes["unasked"], codes["resumed"], codes["refused"]) == (130, 0, 2)


def test_without_the_token_one_sentence(bucket: Workspace, cluster: RayCluster) -> None:
    command = ("train", "run.yaml", "--cluster", cluster.url, "--name", "refused")
    del bucket.environment["RAY_AUTH_TOKEN"]
    bucket.environment["HOME"] = str(bucket.folder)
    without = bucket.delayline(*command)
    bucket.environment["RAY_AUTH_TOKEN"] = "0" * 32
    wrong = bucket.delayline(*command)
    for done, words in ((without, "asks for a token and there is none here"), (wrong, "refuses the token")):
        assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
        assert words in done.err
    (bucket.folder / ".ray").mkdir()
    (bucket.folder / ".ray" / "auth_token").write_text(f"{cluster.token}\n")
    del bucket.environment["RAY_AUTH_TOKEN"]
    found = bucket.delayline(*command, "--dry-run", "--json")
    assert found.code == 0, found.err
    assert found.document["submission"]["upload"]["files"] == ["nets.py"]
    too_much = bucket.delayline(*command, "--workers", "2", "-s", "worker.cpus=4")
    assert too_much.code == 2
    assert "2 workers need 8 CPUs" in too_much.err
    assert not list(bucket.store.objects("runs/"))


def test_a_fault_of_the_users_code_is_exit_code_3_by_either_way(bucket: Workspace, cluster: RayCluster) -> None:
    (bucket.folder / "broken.py").write_text("def build(input_shape, classes):\n    return 1 / (classes - 10)\n")
    spec = ("run.yaml", "-s", "model=broken:build", "-s", "worker.cpus=1")
    command = ("python", "-m", "jobs.train", *spec, "--name", "plain-fault", "--store", bucket.store_url)
    assert ray(bucket, cluster, "submit", "--submission-id=fault", "--working-dir=.", "--", *command).code == 1
    assert jobs(cluster)["fault"]["driver_exit_code"] == 3
    done = bucket.delayline("train", *spec, "--name", "fault", "--cluster", cluster.url)
    assert done.code == 3, done.err
    assert "division by zero" in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    for name in ("plain-fault", "fault"):
        run = bucket.show(name)
        assert (run["state"], run["error"]["exit_code"], len(run["attempts"])) == ("failed", 3, 1)
        assert "return 1 / (classes - 10)" in bucket.delayline("runs", "logs", name).out


def test_doctor_looks_at_the_cluster(bucket: Workspace, cluster: RayCluster) -> None:
    well = bucket.delayline("doctor", "--cluster", cluster.url, "--json")
    assert well.code == 0, well.out
    found = {finding["check"]: finding for finding in well.document["checks"]}
    assert found["token"]["text"] == "accepted"
    assert found["resources"]["text"].startswith("2 nodes, ")
    assert "of 2 CPUs free" in found["resources"]["text"]
    bucket.environment["RAY_AUTH_TOKEN"] = "0" * 32
    wrong = bucket.delayline("doctor", "--cluster", cluster.url)
    assert wrong.code == 5
    assert "does not accept this token" in wrong.out


def test_a_sweep_of_the_ray_cli_is_resumed_by_the_command(bucket: Workspace, cluster: RayCluster) -> None:
    (bucket.folder / "sweep.yaml").write_text(SWEEP)
    arguments = ("sweep.yaml", "-s", "base.steps=40", "--name", "wide")
    command = ("python", "-m", "jobs.sweep", *arguments, "--store", bucket.store_url)
    submitted = ray(bucket, cluster, "submit", "--no-wait", "--submission-id=wide", "--working-dir=.", "--", *command)
    assert submitted.code == 0, submitted.err
    before = bucket.wait_for_trials("wide", 1)
    kill(drivers("wide", "jobs.sweep"))
    done = bucket.delayline("sweep", *arguments, "--cluster", cluster.url, "--json")
    assert done.code == 0, done.err
    trials = {trial["id"]: trial for trial in done.document["trials"]}
    assert [trial["state"] for trial in trials.values()] == ["succeeded"] * 3
    assert len(done.document["attempts"]) == 2
    for trial in before["trials"]:
        if trial["state"] == "succeeded":
            assert trials[trial["id"]] == trial
        steps = [row["step"] for row in bucket.show(trial["id"])["history"]]
        assert steps == sorted(set(steps))
    told = json.dumps(jobs(cluster)) + done.err + done.out
    for secret in (cluster.token, bucket.environment["AWS_SECRET_ACCESS_KEY"], bucket.environment["AWS_ACCESS_KEY_ID"]):
        assert secret not in told


def test_a_run_outlives_its_client_and_a_node(bucket: Workspace, cluster: RayCluster) -> None:
    bucket.environment["DELAYLINE_OWN_SECRET"] = SECRET
    bucket.fill()
    elsewhere = Workspace(bucket.folder / "elsewhere", bucket.store_url, bucket.environment)
    spec = ("run.yaml", "--workers", "1-2", "-s", "worker.cpus=1", "-s", "steps=2000")
    command = ("train", *spec, "--cluster", cluster.url, "--name", "main", "--json")
    client = bucket.start(*command)
    bucket.wait_for_step("main", 20)
    kill([psutil.Process(client.pid)])
    attached = bucket.start(*command)
    run = bucket.wait_for_step("main", bucket.show("main")["checkpoints"][-1]["step"] + 40)
    assert len(run["attempts"]) == 1
    cluster.kill_node(1)
    time.sleep(1.0)
    bucket.wait_for_step("main", bucket.show("main")["checkpoints"][-1]["step"] + 20)
    assert elsewhere.delayline("runs", "cancel", "main").code == 0
    done = bucket.end_of(attached)
    assert (done.code, done.document["state"]) == (130, "cancelled"), done.err
    assert "Traceback" not in done.err
    assert [len(attempt["workers"]) for attempt in done.document["attempts"]] == [2, 1]
    steps = [row["step"] for row in done.document["history"]]
    assert steps == sorted(set(steps))
    assert elsewhere.delayline("runs", "watch", "main").code == 130
    assert "attempt 2 starts 1 worker\n" in elsewhere.delayline("runs", "logs", "main").out
    known = jobs(cluster)
    assert {name for name in known if "main" in name} == {"delayline-main-1"}
    told = json.dumps(known)
    for secret in (SECRET, cluster.token, bucket.environment["AWS_SECRET_ACCESS_KEY"], bucket.environment["AWS_ACCESS_KEY_ID"]):
        assert secret not in told
        assert secret not in done.err + done.out


def test_a_detached_run_outlives_its_driver_and_its_cluster(bucket: Workspace, cluster: RayCluster) -> None:
    command = ("train", *LONG, "--name", "long")
    detached = bucket.delayline(*command, "--cluster", cluster.url, "--detach")
    assert detached.code == 0, detached.err
    run = bucket.wait_for_step("long", 20)
    kill(drivers("long"))
    run = bucket.wait_for_step("long", run["checkpoints"][-1]["step"] + 20)
    assert len(run["attempts"]) == 2
    attached = bucket.start(*command, "--cluster", cluster.url, "--json")
    bucket.wait_for_step("long", run["checkpoints"][-1]["step"] + 40)
    assert {name for name in jobs(cluster) if "long" in name} == {"delayline-long-1"}
    cluster.kill()
    # It gives up by itself: nobody ends it.
    lost = bucket.end_of(attached)
    assert lost.code == 4
    assert "has not answered for" in lost.err.splitlines()[-1]
    assert "resumes from the last checkpoint" in lost.err.splitlines()[-1]
    step = bucket.show("long")["checkpoints"][-1]["step"]
    elsewhere = bucket.start(*command, "--json")
    bucket.wait_for_step("long", step + 20)
    assert bucket.delayline("runs", "cancel", "long").code == 0
    done = bucket.end_of(elsewhere)
    assert done.code == 130, done.err
    steps = [row["step"] for row in done.document["history"]]
    assert steps == sorted(set(steps))
    assert any(event["event"] == "resumed" and event["step"] >= step for event in done.document["events"])
