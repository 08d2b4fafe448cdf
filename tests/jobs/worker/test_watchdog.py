"""A process beside a worker that ends it when its ring does not come to stand in time."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.records.run_record import RunRecord
from service.records.submission_schemas import Origin
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.storage.json_documents import from_bytes
from service.user_folder import python


@pytest.fixture
def worker() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that stands for a worker which waits, and does not listen to SIGTERM."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        yield process
        process.kill()


@pytest.fixture
def record(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> RunRecord:
    monkeypatch.setenv("DELAYLINE_STORE", local_store.url)
    made = RunRecord(local_store, "a-run")
    made.claim(TrainSpec(model="cnn", dataset="digits", epochs=1), Origin())
    return made


def order(record: RunRecord, worker: "subprocess.Popen[bytes]", log: Path, seconds: float) -> bytes:
    known: dict[str, Any] = {"run_id": "a-run", "nonce": record.nonce, "attempt": 1, "rank": 1, "log": str(log)}
    return json.dumps({**known, "pid": worker.pid, "seconds": seconds, "message": "The ring does not stand."}).encode() + b"\n"


def started() -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(python("jobs.worker.watchdog"), stdin=subprocess.PIPE, env=environment)


def test_a_worker_that_waits_too_long_is_ended_and_its_failure_and_log_are_in_the_store(
    record: RunRecord, worker: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    (tmp_path / "log").write_text("what the worker printed\n")
    with started() as watchdog:
        assert watchdog.stdin
        watchdog.stdin.write(order(record, worker, tmp_path / "log", 0.1))
        watchdog.stdin.flush()
        # The worker, which holds the other end, does not close it.
        assert watchdog.wait(60) == 1
    assert worker.wait(20) == -signal.SIGKILL
    key = record.paths.failure(record.label(1), 1)
    failure = from_bytes(record.store.read(key), key)
    assert (failure["kind"], failure["exit_code"], failure["message"]) == ("infrastructure", 4, "The ring does not stand.")
    assert "what the worker printed" in record.store.read(record.paths.log(record.label(1), 1)).decode()


def test_a_worker_whose_ring_stands_lives_on(record: RunRecord, worker: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    with started() as watchdog:
        watchdog.communicate(order(record, worker, tmp_path / "log", 60.0), timeout=60)
        assert watchdog.returncode == 0
    time.sleep(0.1)
    assert worker.poll() is None
    assert list(record.store.objects(record.paths.failures_root(record.label(1)))) == []
