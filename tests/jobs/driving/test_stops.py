"""A process that drives, and the signals that it gets; its store is real, or a socket that takes requests and never answers."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.specs.train import TrainSpec
from service.storage.local import LocalStore

DRIVER = """
import sys, threading, time
from jobs.driving import entry as driving
from service.settings import Settings
from service.storage import open_store
from service.records.run_record import RunRecord

settings = Settings.load(store=sys.argv[1])
record = RunRecord(open_store(settings, patience=300), "a-run")
stops = driving.listen(record, settings)
print("ready", flush=True)
if sys.argv[2] == "stuck":
    # As Ray or a store may hold the main thread: with a lock, in a wait that nothing ends.
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
while not stops.wanted.is_set():
    time.sleep(0.05)
print(stops.by, flush=True)
if sys.argv[2] == "saves":
    stops.ended.set()
    sys.exit(7)
time.sleep(60)
"""


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a store that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"s3://bucket/lab?endpoint_override=http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator["Start"]:
    started = Start(tmp_path)
    yield started
    started.clean_up()


class Start:
    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, list["subprocess.Popen[str]"]()

    def __call__(self, url: str, mode: str) -> "subprocess.Popen[str]":
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "DELAYLINE_STORE_PATIENCE": "5"}
        (self.folder / "driver.py").write_text(DRIVER)
        process = subprocess.Popen(
            [sys.executable, self.folder / "driver.py", url, mode],
            env={**os.environ, **keys, "PYTHONPATH": str(Path(__file__).parents[3])}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def clean_up(self) -> None:
        for process in self.processes:
            with process:
                process.kill()


def wait_until(true: object, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.05)


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    made = RunRecord(LocalStore(tmp_path / "store"), "a-run")
    made.claim(TrainSpec(model="cnn", dataset="digits", epochs=1))
    made.write_state(StateDocument(state="running", attempts=[], error=None))
    return made


@pytest.mark.parametrize("mode", ["waits", "stuck"])
def test_a_second_interrupt_ends_the_process_at_once_without_a_store(start: Start, silent: str, mode: str) -> None:
    process = start(silent, mode)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert time.monotonic() - began < 2


def test_an_end_that_could_not_be_written_is_written_by_another_process(start: Start, record: RunRecord) -> None:
    process = start(record.store.url, "stuck")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    wait_until(lambda: record.state().state == "cancelled")
    assert record.state().state == "cancelled"


@pytest.mark.parametrize(("number", "by"), [(signal.SIGINT, "person"), (signal.SIGTERM, "signal")])
def test_the_first_signal_asks_the_workers_and_says_whose_wish_it_is(
    start: Start, record: RunRecord, number: signal.Signals, by: str
) -> None:
    process = start(record.store.url, "waits")
    process.send_signal(number)
    wait_until(record.cancel_requested)
    assert record.cancel_requested()
    assert record.person_cancelled() == (by == "person")
    assert process.stdout is not None
    assert process.stdout.readline() == f"{by}\n"


def test_the_systems_signal_sent_twice_is_one(start: Start, record: RunRecord) -> None:
    process = start(record.store.url, "waits")
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    time.sleep(1.0)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130


def test_signals_in_any_number_at_any_moment_do_not_hold_the_process_up(start: Start, silent: str) -> None:
    process = start(silent, "waits")
    began = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        while process.poll() is None and time.monotonic() - began < 20:
            process.send_signal(signal.SIGINT)
            time.sleep(0.001)
    assert process.wait(20) == 130
    assert time.monotonic() - began < 5
