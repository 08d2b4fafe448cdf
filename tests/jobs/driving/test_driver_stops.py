"""What ends a run before it has succeeded: a person, the system, the time limit."""

from support.played_workers import Play, StillRunning, Unhurried, is_lost, lost_attempts, obeys, reasons, succeeds

from jobs.driving.stops import SIGNAL
from service.records.cancel_requests import TIME_LIMIT
from service.records.lease import lease_is_live, lease_of
from service.records.run_record import RunRecord
from service.records.schemas import ProgressDocument


def test_a_driver_that_the_system_stops_leaves_a_run_that_any_submission_resumes(play: Play, record: RunRecord) -> None:
    stops = Unhurried()

    def terminated(record: RunRecord, number: int) -> None:
        if record.progress().attempt:
            stops.by = SIGNAL
            stops.wanted.set()
            record.request_cancel(reason=SIGNAL)
        obeys(record, number)

    code, _ = play(terminated, asked=stops)
    state = record.state()
    assert (code, state.state, state.reason, state.error, state.finished) == (4, "retrying", "signal", None, None)
    assert not lease_is_live(lease_of(record))
    assert stops.ended.is_set()
    assert reasons(record) == ["signal"]
    code, _ = play(is_lost, succeeds, retries=1)
    assert (code, record.state().state, record.state().reason is not None) == (0, "succeeded", False)


def test_a_request_to_stop_ends_the_run_and_is_cleared(play: Play, record: RunRecord) -> None:
    def asked_for(record: RunRecord, number: int) -> None:
        if record.progress().attempt:
            record.request_cancel()
        obeys(record, number)

    code, stage = play(asked_for)
    state = record.state()
    assert (code, state.state, state.exit_code, state.error) == (130, "cancelled", 130, None)
    assert len(stage.configs) == 1
    assert state.metrics == {"loss": 0.5}
    assert not record.cancel_requested()


def test_a_request_that_came_between_two_drivers_is_honoured(play: Play, record: RunRecord) -> None:
    record.write_state(lost_attempts(1))
    record.request_cancel()
    code, stage = play(succeeds)
    assert (code, record.state().state, stage.configs) == (130, "cancelled", [])
    assert not record.cancel_requested()
    assert play(succeeds, fresh=True)[0] == 0, "what was handled is not handled again"


def test_what_the_driver_before_asked_for_itself_is_asked_for_anew(play: Play, record: RunRecord) -> None:
    record.request_cancel(TIME_LIMIT)
    assert play(succeeds)[0] == 0


def test_a_run_that_fails_while_it_is_asked_to_stop_is_not_tried_again(play: Play, record: RunRecord) -> None:
    def act(record: RunRecord, number: int) -> BaseException:
        record.request_cancel()
        return RuntimeError("a node went away")

    code, stage = play(act)
    assert (code, len(stage.configs)) == (130, 1)


def test_the_time_limit_stops_the_run_and_says_how_to_resume(play: Play, record: RunRecord) -> None:
    code, stage = play(obeys, time_limit=0.3)
    state = record.state()
    assert (code, state.state, len(stage.configs)) == (3, "failed", 1)
    assert state.error.kind == "time limit"
    assert "The time limit of 0.3 s was reached; continue with --resume" in state.error.message
    assert not record.cancel_requested()


def test_workers_that_do_not_stop_are_not_waited_for_for_ever(play: Play, record: RunRecord) -> None:
    def ignores(record: RunRecord, number: int) -> None:
        record.write_progress(ProgressDocument(attempt=number, phase="training"))
        record.request_cancel()
        raise StillRunning

    assert play(ignores, patience=0.2)[0] == 130


def test_a_stop_at_once_is_written_too(play: Play, record: RunRecord, stops: Unhurried) -> None:
    def stopped(record: RunRecord, number: int) -> None:
        stops.wanted.set()
        stops.at_once.set()
        raise StillRunning

    code, stage = play(stopped)
    state = record.state()
    assert (code, state.state, state.exit_code) == (130, "cancelled", 130)
    assert state.attempts[-1].reason == "cancelled"
    assert not lease_is_live(lease_of(record))
    assert stops.ended.is_set()
    assert not stage.left, "what takes time is left to the thread that ends the process"
