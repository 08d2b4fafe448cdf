"""Optimizers by name, and learning rates over the steps, against their formulas in float64."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.training.optimizers import make_optimizer, make_schedule, set_precision
from service.errors import InvalidInput
from service.specs import choices as vocabulary
from service.specs.parts import Named
from service.specs.train import TrainSpec

MakeSpec = Callable[..., TrainSpec]


@pytest.fixture(autouse=True)
def plain_precision() -> Iterator[None]:
    yield
    keras.mixed_precision.set_dtype_policy("float32")


def rates(values: dict[str, Any], total: int, steps: list[int] | range | None = None) -> np.ndarray:
    schedule = make_schedule(values, total)
    return np.array([float(schedule(step)) for step in (range(total + 1) if steps is None else steps)])


def raw_spec(make_spec: MakeSpec, **values: Any) -> TrainSpec:
    """A spec whose optimizer was not checked."""
    return make_spec().model_copy(update={"optimizer": Named.model_construct(**values)})


WARMUPS = st.tuples(st.integers(2, 60), st.integers(0, 59), st.floats(1e-4, 1.0), st.floats(0, 1)).filter(lambda t: t[1] < t[0])


@settings(max_examples=15, deadline=None)
@given(WARMUPS)
def test_cosine_rises_in_a_line_and_falls_along_half_a_cosine(case: tuple[int, int, float, float]) -> None:
    total, warmup, initial, share = case
    final = initial * share
    got = rates({"name": "cosine", "initial": initial, "warmup_steps": warmup, "final": final}, total)
    for step, rate in enumerate(got):
        down = (step - warmup) / (total - warmup)
        wanted = initial * step / warmup if step < warmup else final + (initial - final) * (1 + math.cos(math.pi * down)) / 2
        assert rate == pytest.approx(wanted, rel=1e-4, abs=1e-7)


@settings(max_examples=15, deadline=None)
@given(WARMUPS)
def test_linear_rises_and_falls_in_lines(case: tuple[int, int, float, float]) -> None:
    total, warmup, initial, share = case
    final = initial * share
    got = rates({"name": "linear", "initial": initial, "warmup_steps": warmup, "final": final}, total)
    for step, rate in enumerate(got):
        down = (step - warmup) / (total - warmup)
        wanted = initial * step / warmup if step < warmup else initial + (final - initial) * down
        assert rate == pytest.approx(wanted, rel=1e-4, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(total=st.integers(4, 60), peak=st.floats(1e-3, 1), rise=st.floats(0.1, 0.9))
def test_one_cycle_begins_at_a_25th_of_its_peak_and_ends_at_zero(total: int, peak: float, rise: float) -> None:
    got = rates({"name": "one-cycle", "peak": peak, "rise": rise}, total)
    top = int(rise * total)
    assert got[0] == pytest.approx(peak / 25 if top else peak, rel=1e-4)
    assert got[top] == pytest.approx(peak, rel=1e-4)
    assert got[total] == pytest.approx(0, abs=1e-6)
    assert all(a < b for a, b in pairwise(got[: top + 1]))
    assert all(a > b for a, b in pairwise(got[top:]))


@settings(max_examples=15, deadline=None)
@given(total=st.integers(1, 60), initial=st.floats(1e-3, 1), share=st.floats(1e-3, 1))
def test_exponential_has_the_same_factor_each_step(total: int, initial: float, share: float) -> None:
    got = rates({"name": "exponential", "initial": initial, "final": initial * share}, total)
    np.testing.assert_allclose(got, initial * share ** (np.arange(total + 1) / total), rtol=1e-4)


def test_piecewise_changes_after_its_boundaries() -> None:
    got = rates({"name": "piecewise", "boundaries": [3, 6], "values": [1.0, 0.5, 0.25]}, 9)
    np.testing.assert_allclose(got, [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25])


SCHEDULES = [
    {"name": "cosine", "initial": 0.1},
    {"name": "cosine", "initial": 0.1, "warmup_steps": 4, "final": 0.01},
    {"name": "linear", "initial": 0.1},
    {"name": "linear", "initial": 0.1, "warmup_steps": 10},
    {"name": "one-cycle", "peak": 0.1},
    {"name": "one-cycle", "peak": 0.1, "rise": 0.0, "start": 0.05, "final": 0.001},
    {"name": "exponential", "initial": 0.1, "final": 0.001},
    {"name": "piecewise", "boundaries": [5], "values": [0.1, 0.01]},
    {"name": "PolynomialDecay", "initial_learning_rate": 0.1, "decay_steps": 10},
]


def test_each_schedule_of_our_own_is_tried() -> None:
    assert {entry["name"] for entry in SCHEDULES} >= vocabulary.SCHEDULES


@pytest.mark.parametrize("values", SCHEDULES, ids=str)
@pytest.mark.parametrize("total", [1, 2, 20])
def test_a_rate_is_finite_never_negative_and_at_most_the_peak_also_beyond_the_end(values: dict[str, Any], total: int) -> None:
    got = rates(values, total, range(total + 5))
    assert np.isfinite(got).all()
    assert (got >= 0).all()
    assert (got <= 0.1 * (1 + 1e-6)).all()


@pytest.mark.parametrize("values", [values for values in SCHEDULES if values["name"] != "exponential"], ids=str)
def test_a_schedule_holds_its_end_when_trained_beyond_it(values: dict[str, Any]) -> None:
    got = rates(values, 20, [20, 21, 40])
    np.testing.assert_allclose(got, got[0], atol=1e-8)


@pytest.mark.parametrize("values", SCHEDULES, ids=str)
def test_a_schedule_drives_an_optimizer(make_spec: MakeSpec, values: dict[str, Any]) -> None:
    optimizer = make_optimizer(make_spec(optimizer={"name": "sgd", "learning_rate": values}), 20)
    variable = keras.Variable(1.0)
    optimizer.build([variable])
    wanted = 1.0
    for rate in rates(values, 20, range(6)):
        optimizer.apply([np.float32(1.0)])
        wanted -= rate
        assert float(variable.numpy()) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("values", SCHEDULES, ids=str)
def test_a_schedule_can_be_written_down(values: dict[str, Any]) -> None:
    schedule = make_schedule(values, 20)
    again = type(schedule).from_config(schedule.get_config())
    assert [float(again(step)) for step in (0, 7, 20)] == [float(schedule(step)) for step in (0, 7, 20)]


@pytest.mark.parametrize("name", sorted(vocabulary.OPTIMIZERS - {"multioptimizer"}))
def test_every_optimizer_makes_a_small_step_downhill(make_spec: MakeSpec, name: str) -> None:
    optimizer = make_optimizer(make_spec(optimizer={"name": name, "learning_rate": 0.01}), 10)
    assert type(optimizer).__name__.lower() == name
    variable = keras.Variable(np.ones((3, 2), np.float32))
    optimizer.build([variable])
    for _ in range(3):
        optimizer.apply([variable.value * 2])
    assert (np.asarray(variable.value) < 1).all()


@pytest.mark.parametrize("name", ["Adam", "ADAM", "adam", "AdamW", "adam-w"])
def test_names_may_be_written_in_any_case(make_spec: MakeSpec, name: str) -> None:
    made = make_optimizer(make_spec(optimizer={"name": name, "learning_rate": 0.5}), 1)
    assert type(made).__name__.lower() == name.lower().replace("-", "")
    assert float(made.learning_rate) == 0.5


def test_arguments_reach_the_optimizer(make_spec: MakeSpec) -> None:
    made = make_optimizer(make_spec(optimizer={"name": "sgd", "momentum": 0.9, "nesterov": True, "global_clipnorm": 1}), 1)
    assert (made.momentum, made.nesterov, made.global_clipnorm) == (0.9, True, 1)
    assert float(made.learning_rate) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("precision", "policy", "scaled"),
    [("float32", "float32", False), ("bfloat16", "mixed_bfloat16", False), ("float16", "mixed_float16", True)],
)
def test_precision_sets_the_policy_and_float16_scales_the_loss(
    make_spec: MakeSpec, precision: str, policy: str, scaled: bool
) -> None:
    spec = make_spec(precision=precision)
    set_precision(spec)
    assert keras.mixed_precision.dtype_policy().name == policy
    assert isinstance(make_optimizer(spec, 1), keras.optimizers.LossScaleOptimizer) == scaled


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "adem"}, "There is no optimizer 'adem': use adadelta, .*sgd"),
        ({"name": "optimizer"}, "There is no optimizer 'optimizer'"),
        ({"name": "lossscaleoptimizer"}, "There is no optimizer"),
        ({"name": "adam", "momentum": 0.9}, "The optimizer 'adam' does not take 'momentum': it takes learning_rate, beta_1"),
        ({"name": "adam", "kwargs": 1}, "does not take 'kwargs'"),
        ({"name": "adam", "learning_rate": "fast"}, "learning_rate is fast, but it must be a number above 0"),
        ({"name": "adam", "learning_rate": 0}, "learning_rate is 0, but it must be a number above 0"),
        ({"name": "adam", "learning_rate": -1e-3}, "learning_rate is -0.001, but it must be a number above 0"),
        ({"name": "adam", "learning_rate": True}, "learning_rate is True, but it must be a number"),
        ({"name": "adam", "learning_rate": [0.1]}, "learning_rate is .*0.1.*, but it must be a number"),
        ({"name": "adam", "learning_rate": {"initial": 1}}, "a mapping without a name: write {name: cosine, initial: 0.002}"),
        ({"name": "adam", "learning_rate": {"name": "sine"}}, "There is no learning rate schedule 'sine': use cosine, linear"),
        ({"name": "adam", "learning_rate": {"name": "LearningRateSchedule"}}, "There is no learning rate schedule"),
        ({"name": "adam", "learning_rate": {"name": "deserialize"}}, "There is no learning rate schedule"),
        ({"name": "adam", "learning_rate": {"name": "cosine"}}, "The schedule 'cosine' needs initial"),
        (
            {"name": "adam", "learning_rate": {"name": "cosine", "start": 1}},
            "does not take 'start': it takes initial, warmup_steps",
        ),
        ({"name": "adam", "learning_rate": {"name": "cosine", "initial": 1, "total_steps": 3}}, "does not take 'total_steps'"),
        *(
            ({"name": "adam", "learning_rate": {"name": schedule, **values}}, f"learning_rate.{message}")
            for schedule, values, message in [
                ("cosine", {"initial": "x"}, "initial is x, but it must be a number above 0"),
                ("cosine", {"initial": 0}, "initial is 0, but it must be a number above 0"),
                ("cosine", {"initial": None}, "initial is None"),
                ("cosine", {"initial": 0.1, "warmup_steps": -2}, "warmup_steps is -2, but it must be a whole number"),
                ("cosine", {"initial": 0.1, "warmup_steps": 1.5}, "warmup_steps is 1.5"),
                ("cosine", {"initial": 0.1, "decay_steps": "x"}, "decay_steps is x"),
                ("cosine", {"initial": 0.1, "final": "a"}, "final is a, but it must be a number of at least 0"),
                ("linear", {"initial": [1]}, "initial is"),
                ("linear", {"initial": 1, "final": -1}, "final is -1"),
                ("one-cycle", {"peak": 0}, "peak is 0"),
                ("one-cycle", {"peak": 0.1, "rise": 2}, "rise is 2, but it must be a share from 0 to 1"),
                ("one-cycle", {"peak": 0.1, "start": True}, "start is True"),
                ("exponential", {"initial": 0, "final": 1}, "initial is 0"),
                ("exponential", {"initial": 1, "final": 0}, "final is 0, but it must be a number above 0"),
            ]
        ),
        ({"name": "adam", "learning_rate": {"name": "piecewise", "boundaries": [1], "values": [1]}}, "piecewise"),
        ({"name": "adam", "learning_rate": {"name": "piecewise", "boundaries": 1, "values": 1}}, "piecewise"),
        ({"name": "adam", "learning_rate": {"name": "CosineDecay", "initial_learning_rate": 1}}, "needs decay_steps"),
        ({"name": "sgd", "momentum": 2}, "The optimizer 'sgd' was refused by Keras: `?momentum"),
        ({"name": "sgd", "momentum": "x"}, "The optimizer 'sgd' was refused by Keras"),
        ({"name": "adam", "clipnorm": 1, "clipvalue": 1}, "was refused by Keras: Only one of"),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused_in_one_sentence(make_spec: MakeSpec, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as refused:
        make_optimizer(raw_spec(make_spec, **values), 10)
    assert "\n" not in str(refused.value)
