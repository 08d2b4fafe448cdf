"""Following a run without a terminal: what a command shows, and a server would send on."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.cluster.base import Job
from service.cluster.local_ray import LocalRay
from service.errors import Cancelled, InfrastructureFailure
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.runs.endings import raise_for
from service.submission.follower import RunFollower, StoppedAtOnce, Wishes
from service.submission.supervisor import Supervisor

JobOf = Callable[..., Callable[[bool], Job]]


def follower_of(record: RunRecord, supervisor: Supervisor | None = None) -> tuple[RunFollower, list[str]]:
    notes: list[str] = []
    return RunFollower(record.store, record.run_id, "run", Wishes(), notes.append, supervisor), notes


def test_the_updates_of_a_run_end_with_its_end_and_its_driver(
    submitted: RunRecord, job_of: JobOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor = Supervisor(submitted, LocalRay(tmp_path / "logs"), job_of("killed", "succeeds"), retries=3)
    follower, notes = follower_of(submitted, supervisor)
    found = list(follower.updates())
    assert found[-1].state == "succeeded"
    assert supervisor.poll() == 0
    assert any("another one is started" in row.message for update in found for row in update.events)
    assert notes == []
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")


def test_a_wish_to_stop_reaches_the_driver(submitted: RunRecord, job_of: JobOf, tmp_path: Path) -> None:
    supervisor = Supervisor(submitted, LocalRay(tmp_path / "logs"), job_of("waits"), retries=3)
    follower, notes = follower_of(submitted, supervisor)
    for update in follower.updates():
        if update.progress:
            follower.wishes.stop_since = follower.wishes.stop_since or time.monotonic()
    assert update.state == "cancelled"
    assert notes == ["saving a checkpoint and stopping; press Ctrl-C again to stop at once"]
    with pytest.raises(Cancelled, match="continue it with: delayline train --resume --name fake"):
        raise_for("fake", update.document)


def test_stopped_at_once_the_driver_ends_and_the_run_is_cancelled(submitted: RunRecord, job_of: JobOf, tmp_path: Path) -> None:
    supervisor = Supervisor(submitted, LocalRay(tmp_path / "logs"), job_of("stubborn"), retries=3)
    follower, _ = follower_of(submitted, supervisor)
    for update in follower.updates():
        if update.progress:
            break
    assert isinstance(follower.stop_at_once(), StoppedAtOnce)
    assert supervisor.poll() == 130
    assert submitted.state().state == "cancelled"


def test_who_only_looks_learns_that_a_run_is_lost(submitted: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.runs.updates.LEASE_SECONDS", 0.1)
    submitted.write_state(StateDocument(state="running", attempts=[]))
    follower, _ = follower_of(submitted)
    with pytest.raises(InfrastructureFailure, match="The run fake was lost: nobody drives it any more"):
        list(follower.updates())
    assert not isinstance(follower.stop_at_once(), StoppedAtOnce)
