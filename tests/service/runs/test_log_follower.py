import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from service.errors import InfrastructureFailure, UnknownName
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.runs.log_follower import OVERLAP, Lines, follow

ATTEMPT = {"number": 1, "workers": [], "started": 1.0, "finished": None, "reason": None}


def write_state(record: RunRecord, state: str, *attempts: dict[str, Any]) -> None:
    record.write_state(StateDocument(state=state, attempts=list(attempts), error=None, metrics={}))


def log(record: RunRecord, text: str, attempt: int = 1, rank: int = 0) -> None:
    record.store.write(record.paths.log(record.label(attempt), rank), text.encode())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.runs.log_follower.LOOK_SECONDS", 0.02)


@pytest.fixture
def driven(submitted: RunRecord) -> RunRecord:
    """A run that this process drives."""
    assert Lease(submitted).acquire()
    return submitted


def told(record: RunRecord, script: list[Callable[[], None]], **arguments: Any) -> list[Lines]:
    """What a follower says while the steps of `script` are done, each once it has looked at the one before."""

    def act() -> None:
        for step in script:
            time.sleep(0.15)
            step()

    thread = threading.Thread(target=act)
    thread.start()
    found = list(follow(record.store, record.run_id, **arguments))
    thread.join()
    return found


def test_lines_come_as_they_are_shipped_whole_and_once(driven: RunRecord) -> None:
    write_state(driven, "running", ATTEMPT)
    found = told(
        driven,
        [
            lambda: log(driven, "one\ntwo\nthr"),
            lambda: log(driven, "one\ntwo\nthree\n"),
            lambda: log(driven, "one\ntwo\nthree\nlast, not ended"),
            lambda: write_state(driven, "succeeded", ATTEMPT),
        ],
    )
    assert [lines.text for lines in found] == ["one\ntwo\n", "three\n", "last, not ended"]


def test_it_may_begin_before_there_is_a_log_and_continues_across_attempts(driven: RunRecord) -> None:
    found = told(
        driven,
        [
            lambda: write_state(driven, "running", ATTEMPT),
            lambda: log(driven, "first 0\n", 1, 0),
            lambda: log(driven, "first 1\n", 1, 1),
            lambda: log(driven, "second 0\n", 2, 0),
            lambda: write_state(driven, "failed", ATTEMPT),
        ],
    )
    assert [(lines.attempt, lines.rank, lines.text) for lines in found] == [
        (1, 0, "first 0\n"),
        (1, 1, "first 1\n"),
        (2, 0, "second 0\n"),
    ]


def test_attempts_that_are_over_are_left_out_but_not_when_asked_for(driven: RunRecord) -> None:
    for attempt in (1, 2):
        log(driven, f"attempt {attempt}\n", attempt)
    write_state(driven, "succeeded", {**ATTEMPT, "finished": 2.0}, {**ATTEMPT, "number": 2})
    assert [lines.text for lines in follow(driven.store, "fake")] == ["attempt 2\n"]
    assert [lines.text for lines in follow(driven.store, "fake", attempt=1)] == ["attempt 1\n"]


def test_following_one_attempt_ends_with_it(driven: RunRecord) -> None:
    log(driven, "attempt 1\n")
    write_state(driven, "running", {**ATTEMPT, "finished": 2.0})
    assert [lines.text for lines in follow(driven.store, "fake", attempt=1)] == ["attempt 1\n"]


def test_one_rank_may_be_chosen(driven: RunRecord) -> None:
    for rank in (0, 1):
        log(driven, f"rank {rank}\n", 1, rank)
    driven.store.write(driven.paths.driver_log(driven.label(1)), b"driver\n")
    write_state(driven, "succeeded", ATTEMPT)
    assert [lines.text for lines in follow(driven.store, "fake", rank=1)] == ["rank 1\n"]
    assert [lines.rank for lines in follow(driven.store, "fake")] == [None, 0, 1]


def test_a_log_of_which_the_store_keeps_the_end_continues_where_it_was(driven: RunRecord) -> None:
    write_state(driven, "running", ATTEMPT)
    lines = [f"line {number:05d}\n" for number in range(400)]
    found = told(
        driven,
        [
            lambda: log(driven, "".join(lines[:200])),
            lambda: log(driven, "".join(lines[120:320])),
            lambda: log(driven, "".join(lines[200:400])),
            lambda: write_state(driven, "succeeded", ATTEMPT),
        ],
    )
    assert "".join(each.text for each in found) == "".join(lines)
    assert not any(each.skipped for each in found)


def test_what_was_lost_between_two_looks_is_said(driven: RunRecord) -> None:
    write_state(driven, "running", ATTEMPT)
    found = told(
        driven,
        [
            lambda: log(driven, "a" * OVERLAP + "\n"),
            lambda: log(driven, "b" * 2 * OVERLAP + "\n"),
            lambda: write_state(driven, "succeeded", ATTEMPT),
        ],
    )
    assert [(each.text[0], each.skipped) for each in found] == [("a", False), ("b", True)]


def test_a_run_that_nobody_drives_is_not_waited_for(submitted: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.runs.updates.LEASE_SECONDS", 0.1)
    monkeypatch.setattr("service.runs.updates.EVENT_SECONDS", 0.0)
    log(submitted, "its last words\n")
    write_state(submitted, "running", ATTEMPT)
    following = follow(submitted.store, "fake")
    assert next(following).text == "its last words\n"
    with pytest.raises(InfrastructureFailure, match="was lost"):
        next(following)


def test_an_unknown_run_is_refused(submitted: RunRecord) -> None:
    with pytest.raises(UnknownName):
        list(follow(submitted.store, "absent"))
