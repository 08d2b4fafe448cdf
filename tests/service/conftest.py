"""A driver without Ray, which holds the lease and writes the documents that a real one writes; and a store of each kind."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from service.cluster.base import Job
from service.cluster.driver_jobs import DRIVERS
from service.records.run_record import RunRecord
from service.records.submission_schemas import Origin
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage import open_store
from service.storage.base import Store

MakeStore = Callable[[], Store]

DRIVER = """
import argparse, os, signal, sys, time
from service.settings import Settings
from service.storage import open_store
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.records.schemas import ProgressDocument, StateDocument

parser = argparse.ArgumentParser()
parser.add_argument("--run")
parser.add_argument("--store")
options, _ = parser.parse_known_args()
modes = os.environ["FAKE_MODES"].split()
record = RunRecord(open_store(Settings.load(store=options.store)), options.run)
lease = Lease(record)
while not lease.acquire():
    time.sleep(0.05)
before = record.state()
number = len(before.attempts) + 1
# One mode for each attempt; the last one stays.
mode = modes[min(number, len(modes)) - 1]
print(f"driver {number} is here: {mode}", flush=True)
if mode == "silent":
    os.kill(os.getpid(), signal.SIGKILL)
attempts = [each.changed(finished=each.finished or time.time()) for each in before.attempts]
attempts += [{"number": number, "workers": [], "started": time.time(), "finished": None, "reason": None}]
state = StateDocument(state="running", attempt=number, attempts=attempts, started=time.time(), finished=None, metrics={}, error=None)
record.write_state(state)
record.write_progress(
    ProgressDocument(
        attempt=number, phase="training", epoch=1, step=number, steps=9, metrics={"loss": 0.5}, model_summary="a small model",
        workers=[{"rank": 0, "host": "h", "pid": os.getpid()}],
    )
)
if mode == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if mode == "odd":
    sys.exit(77)
if mode == "mute":
    print("Error: no words in the store", flush=True)
    sys.exit(4)
if mode == "forgets":
    while not record.cancel_requested():
        time.sleep(0.05)
    record.cancel.withdraw(request=record.cancel.standing().id)
    mode = "waits"
if mode in ("waits", "stubborn"):
    if mode == "stubborn":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    end = time.time() + 30
    while time.time() < end and (mode == "stubborn" or not record.cancel_requested()):
        lease.renew()
        time.sleep(0.05)
    mode = "cancelled"
if mode in ("interrupted", "stops_itself"):
    asked = [] if mode == "interrupted" else [1]
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    end = time.time() + 30
    while time.time() < end and not asked:
        lease.renew()
        time.sleep(0.05)
    state = state.with_newest_attempt(finished=time.time(), reason="signal")
    record.write_state(state.changed(state="retrying", reason="signal"))
    lease.release()
    sys.exit(4)
results = {"succeeds": ("succeeded", 0), "fails": ("failed", 3), "cancelled": ("cancelled", 130)}
result, code = results[mode]
error = {"kind": "user", "exit_code": 3, "message": "ValueError: my own mistake", "traceback": "nets.py, line 3"}
error = error if code == 3 else None
metrics = {"test_accuracy": 0.9, "test_loss": 0.3}
state = record.with_handled_cancel(state.with_newest_attempt(finished=time.time()))
record.write_state(state.changed(state=result, finished=time.time(), metrics=metrics, error=error, exit_code=code))
lease.release()
sys.exit(code)
"""


@pytest.fixture
def submitted(local_store: Store) -> RunRecord:
    """A run that was submitted."""
    made = RunRecord(local_store, "fake")
    assert made.claim(TrainSpec(model="cnn", dataset="digits", epochs=1), Origin(recipe="cnn-digits"))
    return made


@pytest.fixture
def fake_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """Makes the job of a driver that behaves as `modes` say, one for each attempt; it takes the place of `jobs.train`."""
    (tmp_path / "fake_driver.py").write_text(DRIVER)
    monkeypatch.setitem(DRIVERS, "train", "fake_driver")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])

    def make(store_url: str, run_id: str, *modes: str) -> Job:
        return Job("train", run_id, store_url, tmp_path, environment={"PYTHONPATH": path, "FAKE_MODES": " ".join(modes)})

    return make


@pytest.fixture
def job_of(submitted: RunRecord, fake_driver: Callable[..., Job]) -> Callable[..., Callable[[bool], Job]]:
    """Makes the factory of jobs that a supervisor takes."""

    def factory(*modes: str) -> Callable[[bool], Job]:
        return lambda resume: fake_driver(submitted.store.url, submitted.run_id, *modes)

    return factory


@pytest.fixture(params=["local", "seaweedfs", "minio"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeStore:
    """Opens the same empty store again and again, as several processes would."""
    if request.param == "local":
        return lambda: open_store(Settings.load(store=str(tmp_path / "store")))
    server = request.getfixturevalue(request.param)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{server.bucket()}/some/prefix"
    return lambda: open_store(Settings.load(store=url))


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    return make_store()
