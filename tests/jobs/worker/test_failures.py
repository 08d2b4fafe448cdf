"""Whose failure a worker's end is, and what it leaves in the store."""

from pathlib import Path
from typing import Any

import pytest

from jobs.worker.failures import classify, report_failure
from service import errors
from service.errors import DelaylineError, InfrastructureFailure, StoreError, UserFailure
from service.records.run_record import RunRecord
from service.storage.json_documents import from_bytes
from service.storage.local import LocalStore

ALL = [getattr(errors, name) for name in errors.__all__]


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return RunRecord(LocalStore(tmp_path / "store"), "a-run")


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_delaylines_own_errors_are_what_they_are(kind: type[DelaylineError]) -> None:
    error = kind("a sentence")
    assert classify(error) is error


def test_other_errors_are_classified_by_their_stack() -> None:
    assert isinstance(classify(MemoryError()), UserFailure)
    assert isinstance(classify(OSError("disk")), InfrastructureFailure)


def test_a_failure_is_in_the_log_and_in_the_store(record: RunRecord, capsys: pytest.CaptureFixture[str]) -> None:
    error = UserFailure("my own mistake", "nets.py, line 3\n" * 1000)
    assert report_failure(record, 4, 2, error) is error
    key = record.paths.failure(record.label(4), 2)
    document = from_bytes(record.store.read(key), key)
    assert {name: document[name] for name in ("kind", "exit_code", "message", "rank")} == {
        "kind": "user",
        "exit_code": 3,
        "message": "my own mistake",
        "rank": 2,
    }
    assert error.user_traceback.endswith(document["traceback"])
    assert len(document["traceback"]) == 8000
    printed = capsys.readouterr()
    assert "failed: my own mistake" in printed.out
    assert "nets.py, line 3" in printed.err


def test_a_failure_of_unknown_origin_keeps_its_whole_stack(record: RunRecord) -> None:
    def fails() -> None:
        raise OSError("disk")

    try:
        fails()
    except OSError as error:
        known = report_failure(record, 1, 0, error)
    assert isinstance(known, DelaylineError)
    key = record.paths.failure(record.label(1), 0)
    document = from_bytes(record.store.read(key), key)
    assert "in fails" in document["traceback"]
    assert "disk" in document["message"]


def test_a_store_that_refuses_does_not_hide_the_failure(
    record: RunRecord, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise StoreError("no space")

    monkeypatch.setattr(record.store, "write", refuse)
    error = InfrastructureFailure("A peer was lost")
    assert report_failure(record, 1, 0, error) is error
    assert "the failure could not be written to the store: no space" in capsys.readouterr().out
