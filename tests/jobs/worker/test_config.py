"""What a driver hands its workers."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from jobs.worker.config import WorkerConfig, fence_of
from service.errors import LeaseLost
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.records.submission_schemas import Origin
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage.base import Store


def config(folder: Path, **changes: Any) -> WorkerConfig:
    values = {
        "run_id": "a-run",
        "spec": {},
        "attempt": 1,
        "nonce": "",
        "workers": 2,
        "cpus": 1.0,
        "lease_token": "token",
        "folder": str(folder),
        "environment": {},
    }
    return WorkerConfig(**{**values, **changes})


def test_a_worker_has_the_drivers_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = config(tmp_path, environment={"DELAYLINE_STORE": str(tmp_path / "s"), "DELAYLINE_RING_TIMEOUT": "7"})
    for name in made.environment:
        monkeypatch.setenv(name, "9")
    assert Settings.load(store=str(tmp_path)).ring_timeout == 9
    made.enter_environment()
    settings = Settings.load()
    assert settings.ring_timeout == 7
    assert str(settings.store) == str(tmp_path / "s")


def test_credentials_stay_those_of_the_workers_own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    config(tmp_path).enter_environment()
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "mine"


@pytest.fixture
def record(local_store: Store) -> RunRecord:
    made = RunRecord(local_store, "a-run")
    made.claim(TrainSpec(model="cnn", dataset="digits", epochs=1), Origin(dataset_version="7"))
    return made


def test_a_place_knows_who_shares_its_machine(record: RunRecord, tmp_path: Path) -> None:
    here = {"host": socket.gethostname(), "pid": 1}
    members = [{"rank": 0, **here}, {"rank": 1, **here}, {"rank": 2, **here, "host": "another"}]
    settings = Settings.load(store=record.store.url, ring_timeout=70.0)
    place = config(tmp_path, workers=3, attempt=4).place(1, "/mine", record, settings, members)
    assert (place.rank, place.workers, place.attempt, place.folder) == (1, 3, 4, "/mine")
    assert (place.dataset_version, place.ring_timeout, place.neighbours) == ("7", 70.0, 2)


def test_an_attempt_stops_once_another_driver_has_the_lease(record: RunRecord, tmp_path: Path) -> None:
    first, second = Lease(record), Lease(record)
    assert first.acquire()
    fence = fence_of(record, config(tmp_path, lease_token=record.lease().token))
    fence()
    first.release()
    assert second.acquire()
    with pytest.raises(LeaseLost, match="Another driver took over the run a-run"):
        fence()
    second.release()
