"""Two attempts of one run that both believe to be at work: progress and the model are the later one's, and the earlier one stops."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import s3_servers

from jobs.artifacts import progress
from jobs.artifacts.events import EventLog
from jobs.artifacts.model_file import upload_owned
from jobs.artifacts.progress import ProgressReporter
from service.errors import LeaseLost
from service.records.run_record import RunRecord
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage import open_store
from service.storage.base import Store
from service.storage.local import LocalStore


@pytest.fixture(params=["folder", "seaweedfs", "minio"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "folder":
        return LocalStore(tmp_path / "store")
    server: s3_servers.S3Server = request.getfixturevalue(request.param)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return open_store(Settings.load(store=f"s3://{server.bucket()}/lab"))


@pytest.fixture
def record(store: Store) -> RunRecord:
    made = RunRecord(store, "a-run")
    assert made.claim(TrainSpec(model="cnn", dataset="digits", epochs=1))
    return made


@pytest.fixture
def reporter(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], ProgressReporter]:
    """Makes the reporter of an attempt in a process of its own; it writes when it is asked to."""
    monkeypatch.setattr(progress, "FIRST_LOOK", 1000.0)
    return lambda attempt: ProgressReporter(RunRecord(record.store, "a-run", record.nonce), attempt, {"phase": "training"})


def test_an_attempt_that_is_over_writes_no_progress(record: RunRecord, reporter: Callable[[int], ProgressReporter]) -> None:
    old, new = reporter(1), reporter(2)
    old.update(step=10)
    old.confirm()
    assert record.progress().step == 10
    new.update(step=11)
    new.confirm()
    old.update(step=12)
    for again in (old, old, reporter(1)):
        with pytest.raises(LeaseLost):
            again.confirm()
    assert (record.progress().step, record.progress().attempt) == (11, 2)
    new.update(step=13)
    new.close()
    with pytest.raises(LeaseLost):
        old.close()
    assert record.progress().step == 13


def test_its_own_thread_shows_an_attempt_that_it_is_over(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(record.store), "look_seconds", 0.02)
    old = ProgressReporter(record, 1, {})
    new = ProgressReporter(RunRecord(record.store, "a-run"), 2, {})
    new.confirm()
    with pytest.raises(LeaseLost):
        for step in range(400):
            old.update(step=step)
            old.check()
            time.sleep(0.02)
    new.close()


def test_what_is_written_behind_a_deletion_is_not_the_next_runs_progress(
    record: RunRecord, reporter: Callable[[int], ProgressReporter]
) -> None:
    zombie, late = reporter(1), reporter(3)
    zombie.update(step=10)
    zombie.confirm()
    record.store.delete_prefix(record.paths.root)
    with pytest.raises(LeaseLost):
        zombie.confirm()
    with pytest.raises(LeaseLost):
        late.confirm()
    again = RunRecord(record.store, "a-run")
    assert again.claim(TrainSpec(model="cnn", dataset="digits", epochs=1))
    with pytest.raises(LeaseLost):
        reporter(5).confirm()
    assert again.progress().document() == {}


def test_a_model_is_the_later_attempts_whoever_comes_last(
    record: RunRecord, reporter: Callable[[int], ProgressReporter], tmp_path: Path
) -> None:
    old, new = reporter(1), reporter(2)
    old.confirm()
    files = {}
    for name in ("old", "new", "newer"):
        files[name] = tmp_path / name
        files[name].write_text(f"the {name} model")

    def meanwhile(written: str) -> Callable[[], None]:
        """The old attempt has seen that the run is its own; before it writes, the new one comes to its end."""
        left = [written]

        def still_own() -> None:
            old.confirm()
            if left:
                new.confirm()
                upload_owned(record, files[left.pop()], new.confirm)

        return still_own

    with pytest.raises(LeaseLost):
        upload_owned(record, files["old"], meanwhile("new"))
    assert record.store.read(record.paths.model) == b"the new model"
    with pytest.raises(LeaseLost):
        upload_owned(record, files["old"], old.confirm)
    upload_owned(record, files["newer"], new.confirm)
    assert record.store.read(record.paths.model) == b"the newer model"


def test_a_model_that_an_attempt_which_is_over_left_is_replaced(
    record: RunRecord, reporter: Callable[[int], ProgressReporter], tmp_path: Path
) -> None:
    old, new = reporter(1), reporter(2)
    old.confirm()
    for name in ("old", "new"):
        (tmp_path / name).write_text(name)
    begun = iter([True])

    def still_own() -> None:
        new.confirm()
        if next(begun, False):
            # It had looked whether the run is its own before the new attempt began.
            record.store.upload(tmp_path / "old", record.paths.model, if_absent=True)

    upload_owned(record, tmp_path / "new", still_own)
    assert record.store.read(record.paths.model) == b"new"


def test_thousands_of_events_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = RunRecord(LocalStore(tmp_path / "store"), "a-run")
    written: list[int] = []
    write = record.store.write
    monkeypatch.setattr(record.store, "write", lambda key, data, **more: (written.append(len(data)), write(key, data, **more))[1])
    log = EventLog(record, 1, "rank-0")
    for step in range(600):
        log.add("checkpoint", f"checkpoint at step {step} saved", step=step)
        log.flush()
    assert [row.step for row in record.events()] == list(range(600))
    assert max(written) < 20_000
