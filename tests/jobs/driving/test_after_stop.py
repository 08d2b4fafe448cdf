"""The process that writes the end of a run whose driver was killed while it stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.driving import after_stop
from service.records import standing
from service.records.lease import Lease, process_start
from service.records.run_record import Document, RunRecord
from service.records.schemas import StateDocument
from service.specs.train import TrainSpec
from service.storage.json_documents import to_bytes
from service.storage.local import LocalStore


@pytest.fixture
def driver() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that stands for a driver."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def record(tmp_path: Path, driver: "subprocess.Popen[bytes]") -> RunRecord:
    """A run that the driver drives."""
    made = RunRecord(LocalStore(tmp_path / "store"), "a-run")
    made.claim(TrainSpec(model="cnn", dataset="digits", epochs=1))
    assert Lease(made).acquire()
    holder = {"pid": driver.pid, **process_start(driver.pid)}
    made.store.write(made.paths.lease, to_bytes({**made.lease().document(), **holder}))
    made.write_state(StateDocument(state="running", attempts=[{"number": 1, "started": 1.0, "finished": None}], error=None))
    return made


def wait_beside(record: RunRecord, driver: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
    argv = [
        sys.executable,
        "-m",
        "jobs.driving.after_stop",
        "--run",
        "a-run",
        "--store",
        record.store.url,
        "--driver",
        str(driver.pid),
    ]
    return subprocess.Popen(argv)


def test_the_end_of_a_driver_that_was_killed_while_it_saved_is_written(
    record: RunRecord, driver: "subprocess.Popen[bytes]"
) -> None:
    record.request_cancel()
    process = wait_beside(record, driver)
    time.sleep(1.0)
    assert record.state().state == "running"
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert process.wait(60) == 0
    state = record.state()
    assert (state.state, state.exit_code, state.attempts[0].reason) == ("cancelled", 130, "the driver was lost")
    assert not record.cancel_requested()


@pytest.mark.parametrize(
    "left",
    [
        {"state": "running", "attempts": [], "error": None},
        {"state": "succeeded", "attempts": [], "error": None, "exit_code": 0},
    ],
)
def test_a_run_that_nobody_asked_to_stop_or_that_has_ended_stays_as_it_is(
    record: RunRecord, driver: "subprocess.Popen[bytes]", left: Document
) -> None:
    record.write_state(StateDocument(**left))
    if left["state"] == "succeeded":
        record.request_cancel()
    driver.kill()
    driver.wait()
    after_stop.main(["--run", "a-run", "--store", record.store.url, "--driver", str(driver.pid)])
    assert record.state().state == left["state"]


def test_a_run_that_somebody_else_drives_meanwhile_is_left_to_them(record: RunRecord, driver: "subprocess.Popen[bytes]") -> None:
    record.request_cancel()
    driver.kill()
    driver.wait()
    assert Lease(record).acquire()
    assert after_stop.main(["--run", "a-run", "--store", record.store.url, "--driver", str(driver.pid)]) == 1
    assert record.state().state == "running"
    assert record.lease().pid == os.getpid()


@pytest.mark.parametrize(("ask_ray", "state"), [(False, "cancelled"), (True, "running")])
def test_what_a_driver_or_a_supervisor_starts_is_this_command(
    record: RunRecord, driver: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch, ask_ray: bool, state: str
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(standing, "start_in_background", started.append)
    monkeypatch.setattr(after_stop, "job_was_stopped", lambda: False)
    standing.start_after_stop(record, driver.pid, ask_ray)
    driver.kill()
    driver.wait()
    ((_, *words),) = started
    assert words[:3] == ["-P", "-m", "jobs.driving.after_stop"]
    assert after_stop.main(words[3:]) == 0
    assert record.state().state == state


def test_a_driver_whose_end_nobody_asks_for_has_ended(record: RunRecord, driver: "subprocess.Popen[bytes]") -> None:
    """As in a pod, where the parent of a killed driver may never ask."""
    record.request_cancel()
    process = wait_beside(record, driver)
    driver.kill()
    assert process.wait(60) == 0
    assert record.state().state == "cancelled"


@pytest.mark.parametrize("reason", ["signal", "person"])
def test_a_job_that_kubernetes_deletes_leaves_a_run_that_the_next_submission_resumes(
    record: RunRecord, driver: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setattr(after_stop, "job_was_stopped", lambda: True)
    record.request_cancel(reason)
    driver.kill()
    driver.wait()
    argv = ["--run", "a-run", "--store", record.store.url, "--driver", str(driver.pid), "--ask-ray"]
    assert [after_stop.main(argv), after_stop.main(argv)] == [0, 0]
    state = record.state()
    if reason == "person":
        assert (state.state, state.exit_code) == ("cancelled", 130)
    else:
        assert (state.state, state.reason, state.finished, state.exit_code) == ("retrying", "signal", None, None)
        assert state.was_interrupted
    assert state.attempts[0].reason == "the driver was lost"
    assert not record.workers_are_to_stop()
    assert standing.standing_of(record, state) == state.state
