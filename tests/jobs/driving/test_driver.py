"""What a driver does attempt by attempt; the workers are played, the store and the lease are real."""

import time
from typing import Any

import pytest
from support.played_workers import (
    WORKER,
    Act,
    Play,
    Stage,
    StillRunning,
    fails,
    in_its_analysis,
    is_lost,
    lost_attempts,
    reasons,
    succeeds,
)

from service.errors import InfrastructureFailure
from service.records.lease import Lease, lease_is_live, lease_of
from service.records.run_record import RunRecord
from service.records.schemas import LeaseAttempt, ProgressDocument, Worker


def is_killed(record: RunRecord, number: int) -> BaseException:
    """Before it wrote anything: what is there of progress is of the attempt before."""
    return RuntimeError("killed")


def test_a_run_that_succeeds(play: Play, record: RunRecord) -> None:
    code, stage = play(succeeds)
    state = record.state()
    assert (code, state.state, state.exit_code, state.error) == (0, "succeeded", 0, None)
    assert state.metrics == {"test_accuracy": 0.9}
    assert state.attempts[0].workers == (Worker(**WORKER),)
    assert state.started <= state.attempts[0].started <= state.attempts[0].finished <= state.finished
    assert not lease_is_live(lease_of(record))
    assert stage.left
    config = stage.configs[0]
    assert (config.attempt, config.workers, config.run_id) == (1, 2, "a-run")
    assert config.lease_token == record.lease().token


def test_a_run_is_running_once_its_workers_train(play: Play, record: RunRecord) -> None:
    seen: list[Any] = []

    def act(record: RunRecord, number: int) -> None:
        seen.append((record.state().state, record.state().attempts[-1].workers))
        if len(seen) > 3:
            return
        record.write_progress(ProgressDocument(attempt=number, phase="training", workers=[{"rank": 0, "host": "h", "pid": 1}]))
        raise StillRunning

    play(act)
    assert seen[0] == ("starting", ())
    assert seen[-1] == ("running", (Worker(rank=0, host="h", pid=1),))


def test_a_run_that_succeeds_at_its_third_attempt(play: Play, record: RunRecord) -> None:
    code, stage = play(is_lost, fails(("infrastructure", 4)), succeeds)
    assert (code, record.state().state) == (0, "succeeded")
    assert [config.attempt for config in stage.configs] == [1, 2, 3]
    assert reasons(record)[1:] == ["infrastructure of 0", "succeeded"]


def test_a_clock_that_is_set_forward_uses_up_no_time(play: Play, record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    true_time = time.time

    def set_forward(record: RunRecord, number: int) -> None:
        if not record.progress().attempt:
            record.write_progress(ProgressDocument(attempt=number, phase="training"))
            monkeypatch.setattr(time, "time", lambda: true_time() + 9e5)
            raise StillRunning
        if len(looks) < 5:
            looks.append(number)
            raise StillRunning
        succeeds(record, number)

    looks: list[int] = []
    assert play(set_forward, time_limit=1000)[0] == 0
    (attempt,) = record.state().attempts
    assert 0 < attempt.seconds < 100 < attempt.finished - attempt.started


def test_an_attempt_of_a_lost_driver_counts_as_its_lease_says(play: Play, record: RunRecord) -> None:
    record.write_state(lost_attempts(1))
    lost = Lease(record, completed=lambda document: document.changed(attempt=LeaseAttempt(number=1, seconds=900.5)))
    assert lost.acquire()
    lost.release()
    assert play(succeeds)[0] == 0
    assert record.state().attempts[0].seconds == 900.5


def test_an_analysis_that_was_lost_is_repeated_alone(play: Play, record: RunRecord) -> None:
    code, stage = play(in_its_analysis(is_lost), succeeds, retries=0)
    assert (code, record.state().state, record.state().metrics) == (0, "succeeded", {"test_accuracy": 0.9})
    first, second = stage.configs
    assert first.trained is None
    assert second.trained == {"phase": "trained", "step": 40, "metrics": {"test_accuracy": 0.9}}
    assert "not analysed" not in [row.event for row in record.events()]


@pytest.mark.parametrize("second", [in_its_analysis(is_lost), is_killed, fails(("user", 3)), fails(("store", 5))])
@pytest.mark.parametrize("first", [is_lost, fails(("user", 3)), fails(("store", 5)), fails(("infrastructure", 4))])
def test_a_trained_run_succeeds_whatever_becomes_of_its_analysis(play: Play, record: RunRecord, first: Act, second: Act) -> None:
    code, stage = play(in_its_analysis(first), second, retries=1)
    state = record.state()
    assert (code, state.state, state.error, state.metrics) == (0, "succeeded", None, {"test_accuracy": 0.9})
    assert len(stage.configs) == len(state.attempts) == 2
    (said,) = [row.message for row in record.events() if row.event == "not analysed"]
    assert said.endswith(", twice")


def test_a_driver_that_takes_over_repeats_the_analysis_alone_and_once(play: Play, record: RunRecord) -> None:
    class Killed(BaseException):
        """The driver's end."""

    def takes_the_driver(record: RunRecord, number: int) -> BaseException:
        raise Killed

    for count in (1, 2):
        with pytest.raises(Killed):
            play(in_its_analysis(takes_the_driver))
        record.store.delete(record.paths.lease)
        assert [bool(attempt.analysis) for attempt in record.state().attempts] == [False, True][:count]
    code, stage = play(is_lost)
    assert (code, record.state().state, stage.configs) == (0, "succeeded", [])
    # Whoever asks for it again has it tested and analysed anew.
    code, stage = play(succeeds, fresh=True)
    assert code == 0 and [config.trained for config in stage.configs] == [None]


def test_the_time_limit_in_an_analysis_fails_no_trained_run(play: Play, record: RunRecord) -> None:
    def does_not_end(record: RunRecord, number: int) -> BaseException:
        raise StillRunning

    code, _ = play(in_its_analysis(does_not_end), time_limit="1s", patience=0.1)
    assert (code, record.state().state) == (0, "succeeded")
    (said,) = [row.message for row in record.events() if row.event == "not analysed"]
    assert "The time limit of 1 s was reached" in said


def test_a_trained_run_for_whose_analysis_there_is_no_room_succeeds(play: Play, record: RunRecord) -> None:
    class Leaves(Stage):
        def size(self) -> int:
            if self.configs:
                raise InfrastructureFailure("The cluster holds 0 CPUs.")
            return 2

    stage = Leaves(record, [in_its_analysis(is_lost)])
    stage.wait_limit = 0.1
    code, _ = play(stage=stage)
    assert (code, record.state().state, record.state().error) == (0, "succeeded", None)
    assert "holds 0 CPUs" in [row.message for row in record.events() if row.event == "not analysed"][-1]
