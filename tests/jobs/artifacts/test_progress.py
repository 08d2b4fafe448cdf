"""What rank 0 says while a run lives: written in the background, whole at the end, errors passed on."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.artifacts import progress
from jobs.artifacts.events import EventLog
from jobs.artifacts.progress import ProgressReporter
from service.errors import StoreError
from service.records.run_record import RunRecord
from service.storage.local import LocalStore


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return RunRecord(LocalStore(tmp_path / "store"), "a-run")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalStore, "look_seconds", 0.01)


def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_event_log_writes_all_its_events_each_time(record: RunRecord) -> None:
    log = EventLog(record, 2, "driver")
    log.flush()
    assert record.events() == []
    log.add("attempt", "attempt 2 starts", workers=3)
    log.flush()
    log.add("ended", "the run ended")
    log.flush()
    rows = record.events()
    assert [(row.event, row.message, row.attempt) for row in rows] == [
        ("attempt", "attempt 2 starts", 2),
        ("ended", "the run ended", 2),
    ]
    assert rows[0].workers == 3


def test_writers_and_attempts_have_files_of_their_own_and_are_read_by_time(record: RunRecord) -> None:
    logs = [EventLog(record, attempt, writer) for attempt in (1, 2) for writer in ("driver", "rank-0")]
    for number, log in enumerate(reversed(logs)):
        log.add("n", str(number))
    for log in logs:
        log.flush()
    assert [row.message for row in record.events()] == ["0", "1", "2", "3"]


def test_what_a_reporter_was_given_is_there_once_it_is_closed(record: RunRecord) -> None:
    reporter = ProgressReporter(record, 3, {"phase": "starting", "workers": []})
    reporter.restart([{"step": 1}])
    reporter.update(step=5, metrics={"loss": 0.5})
    reporter.update(phase="training", step=6)
    reporter.add_row({"step": 5, "loss": 0.5})
    reporter.event("resumed", "resumes from step 1", step=1)
    reporter.close()
    document = record.progress()
    assert {name: getattr(document, name) for name in ("attempt", "phase", "step", "metrics")} == {
        "attempt": 3,
        "phase": "training",
        "step": 6,
        "metrics": {"loss": 0.5},
    }
    assert record.metric_rows() == [{"step": 1}, {"step": 5, "loss": 0.5}]
    assert [row.event for row in record.events()] == ["resumed"]


def test_it_is_written_while_the_run_trains_without_being_asked(record: RunRecord, quick: None) -> None:
    reporter = ProgressReporter(record, 1, {})
    reporter.update(step=7)
    reporter.add_row({"step": 7})
    reporter.event("a", "b")
    until(lambda: record.progress().step == 7 and record.metric_rows() == [{"step": 7}] and record.events())
    reporter.close()


def test_the_workers_are_written_before_the_first_look(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalStore, "look_seconds", 600.0)
    reporter = ProgressReporter(record, 1, {"phase": "starting", "workers": [{"rank": 0, "host": "h", "pid": 1}]})
    until(lambda: [each.host for each in record.progress().workers] == ["h"])
    reporter.close()


def test_what_did_not_change_is_not_written_again(record: RunRecord, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = ProgressReporter(record, 1, {})
    until(lambda: record.progress().attempt == 1)
    written: list[str] = []
    write = record.store.write
    monkeypatch.setattr(record.store, "write", lambda key, data, **more: (written.append(key), write(key, data, **more))[1])
    reporter.update(step=1)
    until(lambda: written)
    time.sleep(0.1)
    reporter.close()
    assert written == [record.paths.progress]


def test_rows_of_a_checkpoint_replace_those_so_far(record: RunRecord) -> None:
    record.write_history([{"step": 1}, {"step": 2}])
    reporter = ProgressReporter(record, 2, {})
    reporter.restart([{"step": 1}])
    reporter.add_row({"step": 3})
    reporter.close()
    assert record.metric_rows() == [{"step": 1}, {"step": 3}]


def test_rows_that_are_changed_later_do_not_change_what_was_given(record: RunRecord) -> None:
    rows = [{"step": 1}]
    reporter = ProgressReporter(record, 1, {})
    reporter.restart(rows)
    reporter.add_row({"step": 2})
    assert rows == [{"step": 1}]
    reporter.close()


def test_a_store_that_refuses_is_the_callers_error_and_does_not_end_the_process(
    record: RunRecord, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise StoreError("no space")

    monkeypatch.setattr(record.store, "write", refuse)
    reporter = ProgressReporter(record, 1, {})

    def told() -> bool:
        try:
            reporter.check()
        except StoreError:
            return True
        return False

    until(told)
    reporter.update(step=2)
    with pytest.raises(StoreError, match="no space"):
        reporter.close()


def test_a_close_raises_the_error_of_a_last_write_that_was_refused(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FIRST_LOOK", 0.9)
    reporter = ProgressReporter(record, 1, {})

    def refuse(*_: Any, **__: Any) -> str:
        raise StoreError("no space")

    monkeypatch.setattr(record.store, "write", refuse)
    with pytest.raises(StoreError, match="no space"):
        reporter.close()
