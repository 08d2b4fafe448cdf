"""Which trials train together: those whose specs differ in seed, λ and the optimizer's numbers alone."""

from typing import Any

import pytest

from service.specs.choices import OPTIMIZERS as ALL_OPTIMIZERS
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec
from service.sweeps.grouping import OPTIMIZERS, gathers, group_key

BITS: dict[str, Any] = {"dataset": "bits", "task": "bit-memory"}
RUN: dict[str, Any] = {
    "model": "simple-rnn",
    **BITS,
    "epochs": 2,
    "batch": 8,
    "optimizer": {"name": "adam", "learning_rate": 0.01},
}


def key(**changes: Any) -> str | None:
    return group_key(TrainSpec.model_validate({**RUN, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 7},
        {"optimizer": {"name": "Adam", "learning_rate": 0.3}},
        {"optimizer": {"name": "adam", "learning_rate": {"expression": "0.2 / dataset_params.delay"}}, "dataset_params": {}},
    ],
    ids=["seed", "rate", "expression"],
)
def test_seeds_and_rates_may_differ(changes: dict[str, Any]) -> None:
    plain = key(dataset_params={"delay": 5})
    assert plain is not None
    assert key(**{**changes, "dataset_params": {"delay": 5}}) == plain


def test_numbers_of_a_schedule_may_differ_but_not_its_kind() -> None:
    def with_rate(rate: Any, **others: Any) -> str | None:
        return key(optimizer={"name": "adam", "learning_rate": rate, **others})

    cosine = with_rate({"name": "cosine", "initial": 0.01})
    assert with_rate({"name": "cosine", "initial": 0.5}) == cosine
    assert with_rate({"name": "linear", "initial": 0.01}) != cosine
    assert with_rate({"name": "cosine", "initial": 0.01, "final": 0.001}) != cosine
    assert with_rate(0.01) != cosine
    clipped = with_rate(0.01, global_clipnorm=1.0)
    assert with_rate(0.01, global_clipnorm=2.0) == clipped
    assert with_rate(0.01) != clipped
    assert with_rate(0.01, global_clipnorm=0) != clipped
    # One process holds one of these: Keras itself takes no column of them.
    assert with_rate(0.01, beta_1=0.8) != with_rate(0.01, beta_1=0.9)


def test_numbers_of_target_space_may_differ_but_not_its_shapes() -> None:
    def with_space(**keys: Any) -> str | None:
        return key(space={"name": "target", **keys})

    plain = with_space()
    assert plain not in (None, key())
    assert with_space(ridge=0.1, target_std=0.5) == plain
    for changes in ({"realisation": 7}, {"realisation_length": 5}, {"cascade": "ocu"}, {"initial": "weights"}):
        assert with_space(**changes) not in (None, plain)


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": 4},
        {"epochs": 3},
        {"dataset_params": {"delay": 5}},
        {"model_params": {"units": 9}},
        {"log_every": 3},
        {"jit_compile": True},
    ],
)
def test_all_else_must_be_equal(changes: dict[str, Any]) -> None:
    assert key(**changes) not in (None, key())


@pytest.mark.parametrize(
    ("model_params", "changes"),
    [
        ({"units": {"expression": "seed + 8"}}, {"seed": 1}),
        (
            {"units": 8, "input_scale": {"expression": "optimizer.learning_rate * 80"}},
            {"optimizer": {"name": "adam", "learning_rate": 0.02}},
        ),
        ({"units": 8, "input_scale": {"expression": "space.ridge * 800"}}, {"space": {"name": "target", "ridge": 0.002}}),
    ],
    ids=["seed", "rate", "space"],
)
def test_a_model_that_follows_a_members_own_number_is_another_one(model_params: dict[str, Any], changes: dict[str, Any]) -> None:
    first = {"space": {"name": "target"}, "model_params": model_params}
    second = {**first, **changes}
    assert None not in (key(**first), key(**second))
    assert key(**first) != key(**second)
    assert key(model_params={"units": {"expression": "batch + 1"}}) == key(model_params={"units": 9})


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "jordan"},
        {"model": "nets:build"},
        {"model_params": {"units": [64, 129]}},
        {"model": "dense", "dataset": "digits", "task": "classification"},
        {"model": "dense", "dataset": "digits", "task": "classification", "model_params": {"hidden": [129]}},
        {"callbacks": [{"name": "TerminateOnNaN"}]},
        {"space": "target", "dataset_params": {"delay": 60}},
        {"space": "target", "model": "lstm"},
        {"precision": "bfloat16"},
        {"input": "stream"},
        {"workers": 2},
        {"worker": {"gpus": 0.5}},
        {"init_from": "other-run"},
        {"optimizer": {"name": "lamb"}},
        {"optimizer": {"name": "adam", "use_ema": True}},
        {"optimizer": {"name": "sgd", "learning_rate": 0.1, "gradient_accumulation_steps": 2}},
    ],
    ids=str,
)
def test_what_has_no_form_for_several_members_trains_apart(changes: dict[str, Any]) -> None:
    assert key(**changes) is None


def test_small_classifiers_may_train_together() -> None:
    digits = {"dataset": "digits", "task": "classification"}
    assert key(model="dense", **digits, model_params={"hidden": [32, 128], "dropout": 0.2})
    assert key(model="lstm", dataset="digits", task="classification")


@pytest.mark.parametrize(
    ("changes", "together"),
    [
        ({}, True),
        ({"together": "never"}, False),
        ({"scheduler": "asha"}, False),
        ({"workers": 2}, False),
    ],
)
def test_sweeps_whose_trials_run_to_their_own_ends_gather_them(changes: dict[str, Any], together: bool) -> None:
    values = {"base": [{"name": "b", "values": RUN}], "space": {"batch": {"grid": [8]}}, **changes}
    assert gathers(SweepSpec.model_validate(values)) is together


def test_the_optimizers_are_known_ones() -> None:
    assert OPTIMIZERS < ALL_OPTIMIZERS
