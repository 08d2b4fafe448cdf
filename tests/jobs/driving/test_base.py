"""What drivers share: they wait for room, make the page, and start again in a new process."""

import threading
from pathlib import Path
from typing import Any

import pytest
from support.played_workers import Act, Play, Stage, fails, is_lost, obeys, reasons, succeeds

from jobs.driving import base
from jobs.worker_groups.capacity import NoRoom
from service.errors import InfrastructureFailure, LeaseLost
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.storage.local import LocalStore


@pytest.mark.parametrize("act", [succeeds, obeys, fails(("user", 3))], ids=["succeeded", "cancelled", "failed"])
def test_every_end_leaves_a_page(play: Play, record: RunRecord, act: Act) -> None:
    if act is obeys:
        # Asked for while the run is driven.
        threading.Timer(0.5, record.request_cancel).start()
    play(act)
    state = record.state().state
    assert f'class="state {state}"' in record.store.read(record.paths.report).decode()
    assert "no report" not in [row.event for row in record.events()]


def test_a_page_that_cannot_be_made_changes_nothing(play: Play, record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_report(_: RunRecord) -> None:
        raise ValueError("no such font")

    monkeypatch.setattr("jobs.reports.write.write_report", write_report)
    code, _ = play(succeeds)
    assert (code, record.state().state) == (0, "succeeded")
    last = record.events()[-1]
    assert last.event == "no report"
    assert "ValueError: no such font" in last.message


def test_waiting_for_room_costs_no_retry_and_has_an_end(play: Play, record: RunRecord) -> None:
    stage = Stage(record, [is_lost, succeeds])
    refusals = iter(range(12))

    def size() -> int:
        if next(refusals, None) is not None:
            assert record.state().state in ("starting", "retrying")
            raise InfrastructureFailure("The cluster holds 0 CPUs.")
        return 2

    stage.size = size  # type: ignore[method-assign]
    assert play(stage=stage, retries=1)[0] == 0
    assert [row.event for row in record.events()].count("waiting") == 1
    stage.wait_limit = 0.0
    refusals = iter(range(12))
    record.write_state(StateDocument(state="queued", attempts=[], error=None))
    assert play(stage=stage)[0] == 4
    error = record.state().error
    assert error.kind == "infrastructure"
    assert "The cluster holds 0 CPUs. It was waited for 0 s" in error.message


def test_a_request_to_stop_ends_the_wait_for_room(play: Play, record: RunRecord) -> None:
    stage = Stage(record, [])

    def size() -> int:
        record.request_cancel()
        raise InfrastructureFailure("The cluster holds 0 CPUs.")

    stage.size = size  # type: ignore[method-assign]
    assert play(stage=stage)[0] == 130


def test_a_cluster_that_cannot_be_joined_is_tried_again(play: Play, record: RunRecord) -> None:
    class StartsLate(Stage):
        failed = False

        def size(self) -> int:
            if not self.failed:
                self.failed = True
                raise InfrastructureFailure("Ray did not start")
            return 2

    code, _ = play(stage=StartsLate(record, [succeeds]))
    assert code == 0
    assert reasons(record) == ["succeeded"]
    assert "Ray did not start; waiting 0 s, 60 s at most" in [row.message for row in record.events()]
    assert record.state().waiting is None


def test_a_driver_whose_successor_has_written_writes_nothing_any_more(play: Play, record: RunRecord) -> None:
    def successor(record: RunRecord, number: int) -> None:
        other = RunRecord(LocalStore(Path(record.store.url)), record.run_id)
        other.take_state(lambda state: state.changed(state="succeeded", metrics={"by": 2.0}, exit_code=0))

    with pytest.raises(LeaseLost, match=r"state\.json"):
        play(successor)
    assert (record.state().state, record.state().metrics) == ("succeeded", {"by": 2.0})


def test_a_cluster_that_died_is_left_and_a_new_process_resumes(
    play: Play, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(record, [obeys])
    stage.alive = False
    commands: list[list[str]] = []

    def replaced(path: str, argv: list[str]) -> None:
        assert stage.left
        commands.append(argv)
        raise SystemExit

    monkeypatch.setattr("os.execv", replaced)
    with pytest.raises(SystemExit):
        play(stage=stage)
    assert reasons(record) == ["Ray's own processes on this machine were lost."]
    (argv,) = commands
    assert argv[1:6] == ["-P", "-m", "jobs.train", "--run", "a-run"]
    assert argv[-2:] == ["--lease-token", record.lease().token]


def test_what_is_waited_for_is_said_again_and_again_and_is_one_event(
    play: Play, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "SAY_SECONDS", 0.0)
    stage, rooms, seen = Stage(record, [succeeds]), iter([0, 0, 1, 1]), list[Any]()

    def size() -> int:
        if (room := next(rooms, None)) is None:
            return 2
        if record.state().waiting:
            seen.append((record.state().state, record.state().waiting.message))
        raise NoRoom("The cluster holds 1 CPUs.", waiting=f"{room} of 2 workers have room")

    stage.size = size  # type: ignore[method-assign]
    assert play(stage=stage)[0] == 0
    events = [row.message for row in record.events() if row.event == "waiting"]
    assert events == [f"{room} of 2 workers have room; waiting 0 s, 60 s at most" for room in (0, 1)]
    assert seen == [("starting", "0 of 2 workers have room")] * 2 + [("starting", "1 of 2 workers have room")]
    assert record.state().waiting is None
