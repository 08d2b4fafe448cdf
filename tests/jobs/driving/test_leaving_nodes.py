"""What a driver does when nodes are taken away: the system says so some seconds before."""

from typing import Any

import pytest
from support.played_workers import Play, Stage, StillRunning, Unhurried, fails, is_lost, reasons, save_checkpoint, succeeds

from jobs.worker_groups.base import Leaving
from service.records.run_record import RunRecord
from service.records.schemas import ProgressDocument

NODES = ("n1", "n2")
WORKERS = [{"rank": rank, "host": "h", "pid": 1 + rank, "node": node} for rank, node in enumerate(NODES)]
TAKEN = "a node was taken away"


def trains(record: RunRecord, number: int, **values: Any) -> None:
    """Trains on two nodes; when it is asked to stop it saves step 7 and does."""
    if not record.workers_are_to_stop():
        record.write_progress(ProgressDocument(attempt=number, phase="training", workers=WORKERS))
        raise StillRunning
    save_checkpoint(record, number, 7)
    record.write_progress(ProgressDocument(attempt=number, phase="cancelled", workers=WORKERS))


@pytest.fixture
def stage(record: RunRecord) -> Stage:
    """The second attempt succeeds; the node of rank 1 is taken away as soon as the first trains."""
    stage = Stage(record, [trains, succeeds])
    stage.leaves = lambda: Leaving(frozenset({"n2"} if record.state().state == "running" else ()))
    return stage


def said(record: RunRecord, event: str) -> list[str]:
    return [each.message for each in record.events() if each.event == event]


def test_the_workers_save_and_the_run_goes_on_without_a_retry(play: Play, record: RunRecord, stage: Stage) -> None:
    code, _ = play(stage=stage, retries=0)
    assert (code, record.state().state) == (0, "succeeded")
    assert reasons(record) == [TAKEN, "succeeded"]
    assert record.state().attempts[0].saved == 7
    assert said(record, "node leaving") == ["a node is being taken away: saved at step 7"]
    assert said(record, "attempt failed") == []
    assert not record.workers_are_to_stop()


def test_nodes_without_workers_of_the_run_do_not_matter(play: Play, record: RunRecord) -> None:
    stage = Stage(record, [succeeds])
    stage.leaves = lambda: Leaving(frozenset({"n3"}))
    assert play(stage=stage)[0] == 0
    assert reasons(record) == ["succeeded"]


def test_workers_that_are_lost_before_they_saved_use_up_no_retry(play: Play, record: RunRecord, stage: Stage) -> None:
    def killed(record: RunRecord, number: int) -> BaseException:
        if not record.workers_are_to_stop():
            trains(record, number)
        return is_lost(record, number)

    stage.acts[0] = killed
    assert play(stage=stage, retries=0)[0] == 0
    assert reasons(record) == [TAKEN, "succeeded"]
    assert said(record, "node leaving") == ["a node was taken away before anything was saved: there is no checkpoint"]


def test_a_fault_of_the_users_code_remains_one(play: Play, record: RunRecord, stage: Stage) -> None:
    def breaks(record: RunRecord, number: int) -> BaseException | None:
        if not record.workers_are_to_stop():
            trains(record, number)
        return fails(("user", 3))(record, number)

    stage.acts[0] = breaks
    assert play(stage=stage, retries=3)[0] == 3


def test_a_person_who_cancels_meanwhile_is_heard(play: Play, record: RunRecord, stage: Stage) -> None:
    def cancelled(record: RunRecord, number: int) -> None:
        if record.workers_are_to_stop():
            record.request_cancel()
        trains(record, number)

    stage.acts[0] = cancelled
    assert play(stage=stage)[0] == 130
    assert record.state().state == "cancelled"


def test_a_request_of_a_driver_that_is_gone_stops_nobody(play: Play, record: RunRecord) -> None:
    record.request_cancel("node")
    assert play(succeeds)[0] == 0
    assert not record.workers_are_to_stop()


def test_the_node_of_the_driver_itself_is_a_stop_by_the_system(play: Play, record: RunRecord, stage: Stage) -> None:
    stops = Unhurried()

    def terminate() -> None:
        stops.by = "signal"
        stops.wanted.set()
        record.request_cancel("signal")

    stops.terminate = terminate
    stage.leaves = lambda: Leaving(driver=record.state().state == "running")
    assert play(stage=stage, asked=stops)[0] == 4
    state = record.state()
    assert (state.state, state.reason, reasons(record)) == ("retrying", "signal", ["signal"])
    assert state.attempts[0].saved == 7
