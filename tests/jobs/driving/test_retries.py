"""Which failures count as retries, and how long a driver waits before each."""

import pytest
from support.played_workers import Play, Unhurried, is_lost, lost_attempts, obeys, saves, succeeds

from service.records.run_record import RunRecord


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_lost_workers_are_replaced_as_often_as_retries_say(play: Play, record: RunRecord, stops: Unhurried, retries: int) -> None:
    code, stage = play(is_lost, retries=retries)
    state = record.state()
    assert (code, state.state, state.exit_code) == (4, "failed", 4)
    assert len(stage.configs) == len(state.attempts) == retries + 1
    assert state.error.kind == "infrastructure"
    assert state.error.message.endswith(f"a node went away. The {retries} retries are used up.")
    assert all(attempt.finished for attempt in state.attempts)


def test_losses_with_a_new_checkpoint_between_them_are_not_counted_together(play: Play, record: RunRecord) -> None:
    code, stage = play(*(saves(4000 * number, is_lost) for number in range(1, 6)), succeeds, retries=1)
    assert (code, len(stage.configs)) == (0, 6)
    assert [attempt.saved for attempt in record.state().attempts] == [4000, 8000, 12000, 16000, 20000, 20000]


def test_losses_behind_the_same_checkpoint_are_counted(play: Play, record: RunRecord, stops: Unhurried) -> None:
    code, stage = play(saves(4000, is_lost), saves(8000, is_lost), is_lost, is_lost, is_lost, retries=2)
    assert (code, len(stage.configs)) == (4, 4)
    assert stops.pauses == [0.5, 0.5, 1.0]


def test_pauses_between_retries_double_up_to_a_limit(play: Play, stops: Unhurried) -> None:
    play(is_lost, retries=8)
    assert stops.pauses[:8] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_driver_that_takes_over_continues_the_count(play: Play, record: RunRecord) -> None:
    record.write_state(lost_attempts(2))
    code, stage = play(is_lost, retries=2)
    state = record.state()
    assert code == 4
    assert [config.attempt for config in stage.configs] == [3]
    assert state.attempts[1].reason == "the driver was lost"
    assert state.started == 5.0


def test_a_person_who_resumes_gets_all_retries_again(play: Play, record: RunRecord) -> None:
    record.write_state(lost_attempts(2).changed(state="failed"))
    code, stage = play(is_lost, fresh=True, retries=1)
    assert code == 4
    assert [config.attempt for config in stage.configs] == [3, 4]
    assert record.state().first_attempt == 3


def test_what_a_run_did_before_it_was_let_pause_counts_for_its_time_but_not_for_its_retries(
    play: Play, record: RunRecord
) -> None:
    first, second = lost_attempts(2).attempts
    attempts = [
        first.changed(started=1000.0, finished=1500.0, reason="cancelled"),
        second.changed(started=9000.0, finished=9400.0, reason="cancelled"),
    ]
    paused = lost_attempts(2).changed(state="cancelled", attempts=attempts)
    record.write_state(paused)
    code, stage = play(*[is_lost] * 3, succeeds, retries=1, time_limit=1000)
    assert (code, [config.attempt for config in stage.configs]) == (0, [3, 4])
    record.write_state(paused)
    assert play(obeys, time_limit=900.1)[0] == 3
    assert record.state().error.kind == "time limit"
