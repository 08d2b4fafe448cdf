"""When a run stops early, against a plain reference."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.training.early_stopping import is_new_best, score_of, stop_reason
from service.specs.parts import EarlyStopping

# Small whole numbers tie often.
VALUES = st.none() | st.integers(-3, 3).map(float) | st.floats(-100, 100)


def history_of(metric: str, values: list[float | None]) -> list[dict[str, Any]]:
    return [{"step": step, **({} if value is None else {metric: value})} for step, value in enumerate(values)]


def reference(values: list[float], patience: int, min_delta: float, lower: bool) -> bool:
    """The number of evaluations since the last that beat the best before it by more than `min_delta`."""
    best, best_at = None, 0
    for index, value in enumerate(values):
        better = best is None or (value < best - min_delta if lower else value > best + min_delta)
        if better:
            best, best_at = value, index
    return bool(values) and len(values) - 1 - best_at >= max(1, patience)


@given(
    values=st.lists(VALUES, max_size=12),
    patience=st.integers(0, 5),
    min_delta=st.sampled_from([0.0, 0.5, 1.0]),
    mode=st.sampled_from(["min", "max", "auto"]),
    metric=st.sampled_from(["val_loss", "val_accuracy"]),
)
def test_a_run_stops_when_the_reference_says_so(
    values: list[float | None], patience: int, min_delta: float, mode: str, metric: str
) -> None:
    policy = EarlyStopping.model_validate({"metric": metric, "mode": mode, "patience": patience, "min_delta": min_delta})
    lower = mode == "min" or (mode == "auto" and metric == "val_loss")
    seen = [value for value in values if value is not None]
    assert bool(stop_reason(history_of(metric, values), policy)) == reference(seen, patience, min_delta, lower)


@given(values=st.lists(st.tuples(st.integers(-3, 3).map(float), st.booleans()), max_size=12), patience=st.integers(0, 4))
def test_a_metric_of_the_training_is_looked_at_with_each_evaluation(values: list[tuple[float, bool]], patience: int) -> None:
    """Rows that are written between evaluations do not count."""
    policy = EarlyStopping(metric="loss", patience=patience)
    rows = [{"loss": value, **({"val_loss": 1.0} if evaluated else {})} for value, evaluated in values]
    evaluations = [value for value, evaluated in values if evaluated]
    assert bool(stop_reason(rows, policy)) == reference(evaluations, patience, 0.0, lower=True)


@given(values=st.lists(st.integers(-5, 5).map(float), max_size=10), patience=st.integers(0, 4))
def test_once_reached_it_stays_reached_until_something_improves(values: list[float], patience: int) -> None:
    policy = EarlyStopping(patience=patience)
    rows = history_of("val_loss", values)
    for length in range(1, len(rows)):
        if stop_reason(rows[:length], policy) and values[length] >= min(values[:length]):
            assert stop_reason(rows[: length + 1], policy)


@given(
    values=st.lists(VALUES, max_size=12),
    goal=st.integers(-3, 3).map(float),
    metric=st.sampled_from(["val_loss", "val_accuracy"]),
)
def test_a_run_stops_at_its_goal_reached_twice_running(values: list[float | None], goal: float, metric: str) -> None:
    policy = EarlyStopping.model_validate({"metric": metric, "goal": goal})
    better = [value < goal if metric == "val_loss" else value > goal for value in values if value is not None]
    met = better[-2:] == [True, True]
    assert stop_reason(history_of(metric, values), policy) == (f"{metric} is better than {goal:g}" if met else None)


def test_a_goal_may_come_with_patience() -> None:
    policy = EarlyStopping(metric="val_accuracy", goal=0.9, patience=2)
    assert not stop_reason(history_of("val_accuracy", [0.5, 0.5]), policy)
    assert stop_reason(history_of("val_accuracy", [0.5, 0.5, 0.5]), policy) == "the metric stopped improving"


def test_a_run_never_stops_before_an_evaluation_or_at_the_first() -> None:
    policy = EarlyStopping(patience=0)
    assert not stop_reason([], policy)
    assert not stop_reason([{"loss": 1.0}, {"loss": 2.0}], policy)
    assert not stop_reason([{"val_loss": 1.0}], policy)
    assert stop_reason([{"val_loss": 1.0}, {"val_loss": 1.0}], policy)


@pytest.mark.parametrize(
    ("policy", "row", "score"),
    [
        (None, {"val_loss": 0.5, "val_accuracy": 0.9}, 0.5),
        (None, {"loss": 0.5}, None),
        (EarlyStopping(metric="val_accuracy"), {"val_loss": 0.5, "val_accuracy": 0.9}, -0.9),
        (EarlyStopping(metric="val_accuracy", mode="min"), {"val_accuracy": 0.9}, 0.9),
        (EarlyStopping(metric="val_loss", mode="max"), {"val_loss": 0.5}, -0.5),
    ],
)
def test_a_score_is_lower_for_the_better_row(policy: EarlyStopping | None, row: dict[str, Any], score: float | None) -> None:
    assert score_of(row, policy) == score


@given(values=st.lists(VALUES, max_size=8), metric=st.sampled_from(["val_loss", "val_accuracy"]))
def test_a_row_is_a_new_best_where_its_value_beats_all_before(values: list[float | None], metric: str) -> None:
    policy = EarlyStopping(metric=metric)
    *before, newest = values or [None]
    seen = [value for value in before if value is not None]
    beats = newest is not None and all(newest < value if metric == "val_loss" else newest > value for value in seen)
    assert is_new_best(history_of(metric, values), policy) == beats
