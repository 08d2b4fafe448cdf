"""At which steps something is due."""

from hypothesis import given
from hypothesis import strategies as st

from jobs.training.intervals import Intervals
from service.specs.train import TrainSpec


def intervals(steps_per_epoch: int, **keys: object) -> Intervals:
    spec = {"model": "cnn", "dataset": "digits", "epochs": 3, **keys}
    if "steps" in keys:
        del spec["epochs"]
    return Intervals(TrainSpec.model_validate(spec), steps_per_epoch)


@given(
    per_epoch=st.integers(1, 40),
    steps=st.integers(1, 200),
    log_every=st.integers(1, 60),
    every_steps=st.none() | st.integers(1, 60),
    most=st.integers(1, 50),
)
def test_stretches_stop_wherever_something_is_due_and_end_at_the_last_step(
    per_epoch: int, steps: int, log_every: int, every_steps: int | None, most: int
) -> None:
    checkpoint = {"every_steps": every_steps} if every_steps else {"every_epochs": 1}
    due = intervals(per_epoch, steps=steps, log_every=log_every, checkpoint=checkpoint)
    done, stops = 0, set()
    while count := due.steps_until_due(done, most):
        assert 1 <= count <= most
        done += count
        stops.add(done)
    assert done == steps
    wanted = {
        step
        for step in range(1, steps + 1)
        if due.row_due(step) or due.checkpoint_due(step) or due.evaluation_due(step) or due.ends_epoch(step)
    }
    assert wanted <= stops


def test_epochs_are_counted_from_one() -> None:
    due = intervals(10)
    assert [due.epoch(step) for step in (0, 1, 10, 11, 30)] == [0, 1, 1, 2, 3]
    assert (due.total, due.epochs) == (30, 3)


def test_steps_replace_epochs_and_the_last_epoch_may_be_cut_short() -> None:
    due = intervals(10, steps=25)
    assert (due.total, due.epochs) == (25, 3)
    assert due.ends_epoch(25) and due.evaluation_due(25) and due.checkpoint_due(25) and due.row_due(25)
    assert not due.begins_epoch(25) and due.begins_epoch(20)


def test_evaluations_and_checkpoints_follow_their_intervals() -> None:
    due = intervals(4, epochs=6, evaluate={"every_epochs": 2}, checkpoint={"every_epochs": 3})
    assert [step for step in range(1, 25) if due.evaluation_due(step)] == [8, 16, 24]
    assert [step for step in range(1, 25) if due.checkpoint_due(step)] == [12, 24]
