import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service import recipes
from service.cluster.base import Job
from service.cluster.local_ray import LocalRay, ProcessRequest
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.storage.base import Store
from service.submission import follower, supervisor

Delayline = Callable[..., Any]
Drive = Callable[..., None]
TRAIN = ("train", "--name", "fake", "-s", "worker.cpus=0.01")
SPEC = recipes.resolve("cnn-digits", ["worker.cpus=0.01"], None, Path())[0]


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, local_store: Store, fake_driver: Callable[..., Job]) -> Drive:
    """Lets `delayline train` start the driver without Ray, which behaves as the modes say."""
    monkeypatch.setattr(supervisor, "PAUSE_SECONDS", 0.05)

    def choose(*modes: str) -> None:
        monkeypatch.setattr("service.submission.plan.driver_job", lambda *arguments: fake_driver(local_store.url, "fake", *modes))

    return choose


def interrupt_once(ready: Callable[[], object], times: int = 1, pause: float = 0.3) -> threading.Thread:
    """Press Ctrl-C when `ready` says so, `times` times."""

    def press() -> None:
        end = time.monotonic() + 30
        while not ready() and time.monotonic() < end:
            time.sleep(0.02)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(pause)

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    return thread


def test_trains_and_says_the_result(delayline: Delayline, drive: Drive) -> None:
    drive("succeeds")
    done = delayline(*TRAIN)
    assert done.code == 0
    assert done.out.startswith("run fake succeeded in 0:0")
    assert "test_accuracy 0.9000  test_loss 0.3000" in done.out
    assert "a small model" in done.err


def test_prints_one_document(delayline: Delayline, drive: Drive) -> None:
    drive("succeeds")
    run = delayline(*TRAIN, "--json").document
    assert (run["id"], run["state"], run["metrics"]["test_accuracy"]) == ("fake", "succeeded", 0.9)
    again = delayline(*TRAIN, "--json").document
    assert again["finished"] == run["finished"]


def test_a_killed_driver_is_replaced(delayline: Delayline, drive: Drive) -> None:
    drive("killed", "succeeds")
    done = delayline(*TRAIN, "--json")
    assert done.code == 0
    assert len(done.document["attempts"]) == 2
    assert "was killed by signal 9" in done.err


def test_the_users_own_mistake_ends_with_3_and_its_reason(delayline: Delayline, drive: Drive) -> None:
    drive("fails")
    done = delayline(*TRAIN, "--json")
    assert done.code == 3
    assert done.document["error"]["message"] == "ValueError: my own mistake"
    assert "Error: ValueError: my own mistake (`delayline runs logs fake` shows the stack)" in done.err
    assert "Traceback" not in done.err
    refused = delayline(*TRAIN)
    assert refused.code == 2
    assert "add --resume" in refused.err


def test_a_driver_that_leaves_without_a_word_in_the_store_is_quoted(delayline: Delayline, drive: Drive) -> None:
    drive("mute")
    done = delayline(*TRAIN)
    assert done.code == 4
    assert "Error: no words in the store" in done.err


def test_one_interrupt_saves_and_cancels(delayline: Delayline, drive: Drive, local_store: Store) -> None:
    drive("waits", "succeeds")
    record = RunRecord(local_store, "fake")
    thread = interrupt_once(lambda: record.progress().workers)
    done = delayline(*TRAIN, "--json")
    thread.join()
    assert done.code == 130
    assert done.document["state"] == "cancelled"
    assert "delayline train --resume --name fake" in done.err
    resumed = delayline("train", "--resume", "--name", "fake", "--json")
    assert (resumed.code, resumed.document["state"]) == (0, "succeeded")


@pytest.mark.parametrize(("times", "pause"), [(2, 0.3), (8, 0.06)], ids=["two", "impatient"])
def test_two_interrupts_stop_at_once(delayline: Delayline, drive: Drive, local_store: Store, times: int, pause: float) -> None:
    """And more of them do not leave the driver half stopped."""
    drive("stubborn")
    before = signal.getsignal(signal.SIGINT)
    record = RunRecord(local_store, "fake")
    thread = interrupt_once(lambda: record.progress().workers, times, pause)
    began = time.monotonic()
    done = delayline(*TRAIN, "--json")
    thread.join()
    assert done.code == 130
    assert done.document["state"] == "cancelled"
    assert time.monotonic() - began < 25
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(ProcessLookupError):
        os.kill(record.progress().workers[0].pid, 0)


def test_a_wish_to_stop_that_a_starting_driver_missed_is_repeated(
    delayline: Delayline, drive: Drive, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "REPEAT_SECONDS", 0.2)
    drive("forgets")
    thread = interrupt_once(lambda: RunRecord(local_store, "fake").progress().workers)
    done = delayline(*TRAIN)
    thread.join()
    assert done.code == 130


def test_a_second_submission_attaches(
    delayline: Delayline, local_store: Store, tmp_path: Path, fake_driver: Callable[..., Job]
) -> None:
    record = RunRecord(local_store, "fake")
    record.claim(SPEC)
    place = LocalRay(tmp_path / "logs")
    driver = place.start(place.request(fake_driver(local_store.url, "fake", "waits")))
    while not record.progress().attempt:
        time.sleep(0.05)
    threading.Timer(0.5, record.request_cancel).start()
    done = delayline(*TRAIN)
    assert done.code == 130
    assert len(record.state().attempts) == 1
    driver.stop()


def test_a_job_that_the_cluster_still_knows_is_looked_after_by_whoever_attaches(
    delayline: Delayline,
    drive: Drive,
    local_store: Store,
    tmp_path: Path,
    fake_driver: Callable[..., Job],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drive("killed", "succeeds")
    record = RunRecord(local_store, "fake")
    record.claim(SPEC)
    place = LocalRay(tmp_path / "logs")
    driver = place.start(place.request(fake_driver(local_store.url, "fake", "waits")))
    while not record.progress().attempt:
        time.sleep(0.05)
    monkeypatch.setattr(LocalRay, "find", lambda cluster, run_id: driver)
    threading.Timer(0.5, lambda: os.kill(driver.pid, signal.SIGKILL)).start()
    done = delayline(*TRAIN, "--json")
    assert done.code == 0
    assert len(done.document["attempts"]) == 2
    assert "was killed by signal 9; another one is started" in done.err


def test_an_attached_run_that_is_lost_is_taken_over(
    delayline: Delayline, drive: Drive, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive("succeeds")
    monkeypatch.setattr("service.runs.updates.EVENT_SECONDS", 0.0)
    monkeypatch.setattr("service.runs.updates.LEASE_SECONDS", 0.2)
    record = RunRecord(local_store, "fake")
    record.claim(SPEC)
    lease = Lease(record)
    assert lease.acquire()
    record.write_state(StateDocument(state="running", attempt=1, attempts=[], error=None))
    threading.Timer(1.0, lease.release).start()
    done = delayline(*TRAIN)
    assert done.code == 0
    assert "nobody drives the run any more" in done.err
    assert "test_accuracy 0.9000" in done.out


def test_detached_it_returns_at_once(
    delayline: Delayline, local_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[ProcessRequest] = []
    monkeypatch.setattr(LocalRay, "start", lambda cluster, request: started.append(request))
    shown = delayline(*TRAIN, "--detach", "--dry-run", "--json").document["command"]
    done = delayline(*TRAIN, "--detach", "--json")
    assert (done.code, done.document["state"]) == (0, "queued")
    assert list(started[0].argv) == shown
    assert started[0].argv[1:4] == ("-P", "-m", "service.submission.detached")
    assert "run fake is on its way" in done.err
    again = delayline(*TRAIN, "--detach")
    assert len(started) == 1
    assert "under way already" in again.err


def test_a_dry_run_writes_nothing(delayline: Delayline, local_store: Store) -> None:
    plan = delayline(*TRAIN, "--dry-run", "--json").document
    assert plan["spec"]["model"] == "cnn"
    assert plan["command"][1:6] == ["-P", "-m", "jobs.train", "--run", "fake"]
    text = delayline(*TRAIN, "--dry-run").out
    assert "cpus_per_worker: 0.01" in text
    assert "early_stopping: null" in text
    assert not list(local_store.objects(""))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-recipe"], "no recipe"),
        (["cnn-digits", "-s", "epochs=-1"], "at least 1"),
        (["cnn-digits", "-s", "colour=red"], "Unknown key"),
        (["cnn-digits", "-s", "dataset=absent"], "absent"),
        (["cnn-digits", "-s", "model=absent"], "no model"),
        (["--name", "../up"], "run id"),
        (["--name", ""], "run id"),
        (["--name", "A"], "run id"),
        (["--name", "x" * 300], "run id"),
        (["--resume"], "--name ID"),
        (["--resume", "--name", "absent"], "no run"),
        (["cnn-digits", "--resume", "--name", "absent"], "no run"),
        (["--workers", "zero"], "workers"),
        (["--workers", "3"], "multiple"),
        (["--workers", "4000", "-s", "batch=4000"], "4000"),
        (["-s", "worker.cpus=4000"], "this machine has"),
        (["--cluster", "kube://team"], "no kubeconfig that can be used"),
        (["--pool", "gpu"], "leave --pool"),
        (["absent.yaml"], "cannot be read"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    delayline: Delayline, local_store: Store, arguments: list[str], words: str
) -> None:
    done = delayline("train", *arguments, "--json")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: ")
    assert words in done.err
    assert len(done.err.splitlines()) == 1
    assert not list(local_store.objects("runs/"))
