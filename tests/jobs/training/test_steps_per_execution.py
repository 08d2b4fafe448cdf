"""How many steps a call does."""

from jobs.training.steps_per_execution import MOST_BYTES_A_CALL, MOST_STEPS_A_CALL, SECONDS_A_CALL, StepsPerExecution


def test_calls_grow_until_they_take_as_long_as_wanted() -> None:
    pace = StepsPerExecution(bytes_per_step=1000, proposes=True)
    for _ in range(6):
        pace.measured(seconds=0.01 * pace.most, steps=pace.most)
        pace.accept(pace.proposed)
    assert pace.most == round(SECONDS_A_CALL / 0.01)


def test_a_first_call_that_compiled_does_not_mislead() -> None:
    pace = StepsPerExecution(bytes_per_step=1000, proposes=True)
    pace.measured(seconds=5.0, steps=1)
    pace.accept(pace.proposed)
    assert pace.most == 1
    pace.measured(seconds=0.001, steps=1)
    pace.accept(pace.proposed)
    assert pace.most == 8


def test_only_the_worker_that_proposes_offers_and_all_agree_on_the_sum() -> None:
    lead, other = StepsPerExecution(1, proposes=True), StepsPerExecution(1, proposes=False)
    for pace, seconds in ((lead, 0.002), (other, 0.2)):
        pace.measured(seconds, 1)
    summed = lead.proposed + other.proposed
    lead.accept(summed)
    other.accept(summed)
    assert lead.most == other.most == 8


def test_the_inputs_of_a_call_stay_small() -> None:
    pace = StepsPerExecution(bytes_per_step=MOST_BYTES_A_CALL // 3, proposes=True, steps_a_call=MOST_STEPS_A_CALL)
    assert pace.most == 3
    assert StepsPerExecution(bytes_per_step=10 * MOST_BYTES_A_CALL, proposes=True).most == 1


def test_a_callback_that_sees_batches_gets_single_steps() -> None:
    assert StepsPerExecution(1, proposes=True, single_steps=True, steps_a_call=100).most == 1


def test_the_rate_is_over_the_last_calls_and_pauses_do_not_count() -> None:
    now = [0.0]
    pace = StepsPerExecution(1, proposes=True, clock=lambda: now[0])
    assert pace.steps_per_second == 0
    for step in range(0, 50, 10):
        pace.mark(step)
        now[0] += 2.0
    assert pace.steps_per_second == 5.0
    pace.pause()
    assert pace.steps_per_second == 0
