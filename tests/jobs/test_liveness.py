"""What a worker says of its getting on, and the process that ends it when it says nothing for too long."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.worker.stall_watch import GAPS, LONG_SECONDS, Silence
from service.records.run_record import RunRecord
from service.specs.train import TrainSpec
from service.storage.json_documents import from_bytes
from service.storage.local import LocalStore

WORKER = """
import sys, threading, time
from pathlib import Path
from jobs import liveness as stall
from jobs.artifacts.logs import capture_output

log, rank, mode = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
capture_output(log)

def stands_in_a_collective():
    if mode == "gil":
        import ctypes
        ctypes.PyDLL(None).sleep(60)
    time.sleep(60)

order = {"run_id": "a-run", "nonce": sys.argv[4], "attempt": 1, "rank": rank, "log": str(log), "limit": 1.0}
with stall.watched_for_stalls(order):
    for _ in range(20):
        time.sleep(0.01)
        stall.tick()
    if mode == "ends":
        sys.exit(5)
    if mode == "long":
        stall.longer()
        time.sleep(4)
        sys.exit(6)
    stands_in_a_collective()
"""


@given(
    limit=st.floats(1, 100),
    gaps=st.lists(st.floats(0.001, 50), max_size=20),
    last=st.floats(0, 5000),
)
def test_a_silence_may_last_twenty_times_the_longest_gap_and_at_least_its_limit(
    limit: float, gaps: list[float], last: float
) -> None:
    now = 0.0
    silence = Silence(limit, lambda: now)
    now += 7777.0  # What comes before the first tick is no gap.
    silence.note(b"+.")
    for gap in gaps:
        now += gap
        silence.note(b".")
    now += last
    assert silence.limit == pytest.approx(max(limit, GAPS * max(gaps, default=0.0)), rel=1e-6)
    assert silence.seconds == pytest.approx(last, abs=1e-6)
    silence.note(b".+")
    assert silence.limit >= LONG_SECONDS


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunRecord:
    store = LocalStore(tmp_path / "store")
    monkeypatch.setenv("DELAYLINE_STORE", store.url)
    made = RunRecord(store, "a-run")
    made.claim(TrainSpec(model="cnn", dataset="digits", epochs=1))
    return made


def run(record: RunRecord, folder: Path, rank: int, mode: str) -> "subprocess.Popen[bytes]":
    (folder / "worker.py").write_text(WORKER)
    argv = [sys.executable, folder / "worker.py", folder / "log", str(rank), mode, record.nonce]
    return subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})


@pytest.mark.parametrize("mode", ["sleeps", "gil"])
def test_a_worker_that_stands_still_is_ended_with_its_stacks_in_its_log(record: RunRecord, tmp_path: Path, mode: str) -> None:
    began = time.monotonic()
    assert run(record, tmp_path, 0, mode).wait(60) == -signal.SIGKILL
    assert time.monotonic() - began < 30
    key = record.paths.failure(record.label(1), 0)
    failure = from_bytes(record.store.read(key), key)
    assert (failure["kind"], failure["exit_code"], failure["stalled"]) == ("infrastructure", 4, True)
    assert failure["message"].startswith("Worker 0 stalled for ")
    log = record.store.read(record.paths.log(record.label(1), 0)).decode()
    assert "stands_in_a_collective" in log
    assert "failed: Worker 0 stalled" in log


@pytest.mark.slow
def test_another_rank_waits_for_rank_0_that_moves(record: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = run(record, tmp_path, 1, "sleeps")
    end = time.monotonic() + 22
    while time.monotonic() < end:
        record.store.write(record.paths.progress, f'{{"format": 1, "time": {time.time()}}}'.encode())
        time.sleep(0.5)
    assert process.poll() is None
    # Rank 0 is silent now.
    assert process.wait(60) == -signal.SIGKILL


@pytest.mark.parametrize(("mode", "code"), [("ends", 5), ("long", 6)])
def test_a_worker_that_ends_or_does_what_takes_long_is_left_alone(
    record: RunRecord, tmp_path: Path, mode: str, code: int
) -> None:
    assert run(record, tmp_path, 0, mode).wait(60) == code
    assert not list(record.store.objects(record.paths.failures_root(record.label(1))))
