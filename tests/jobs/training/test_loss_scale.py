"""The loss scale of float16, against Keras' own optimizer, which does the same for one worker."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from jobs.training.loss_scale import LossScale
from jobs.training.variables import copy_variables


def optimizer_of(variables: list[Any], growth: int = 3, **inner: Any) -> keras.optimizers.LossScaleOptimizer:
    inner_optimizer = keras.optimizers.SGD(0.5, momentum=0.9, **inner)
    made = keras.optimizers.LossScaleOptimizer(inner_optimizer, initial_scale=2.0**10, dynamic_growth_steps=growth)
    made.build(variables)
    return made


def numbers(variables: list[Any]) -> list[bytes]:
    return [array.tobytes() for array in copy_variables(variables).values()]


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.sampled_from([1.0, -3.0, np.inf, -np.inf, np.nan]), min_size=1, max_size=9), clip=st.booleans())
def test_steps_are_those_of_keras_own_optimizer(steps: list[float], clip: bool) -> None:
    """Growth after some steps without an overflow, half the scale at one, the inner optimizer's momentum, limits and count."""
    ours, theirs = ([keras.Variable(np.ones((2, 3), np.float32)), keras.Variable(np.ones(3, np.float32))] for _ in range(2))
    inner = {"global_clipnorm": 0.5} if clip else {}
    first, second = optimizer_of(ours, **inner), optimizer_of(theirs, **inner)
    made = LossScale(first, keras.Sequential([keras.Input((2,)), layers.Dense(3)]), ours)
    for value in steps:
        gradients = [tf.fill([2, 3], 2.0 * value), tf.constant([1.0, value, 2.0])]
        made.apply(gradients, lambda given: given, ours)
        second.apply(gradients, theirs)
        assert numbers(ours) == numbers(theirs)
        assert numbers(first.variables) == numbers(second.variables)


@pytest.mark.parametrize(("kind", "skipped"), [("float16", True), ("float32", False)])
def test_a_sum_that_the_layers_type_cannot_hold_is_an_overflow_as_it_is_for_one_worker(kind: str, skipped: bool) -> None:
    # Each worker's share, such as 40,000, fits.
    policy = keras.DTypePolicy("mixed_float16" if kind == "float16" else "float32")
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False, dtype=policy)])
    optimizer = optimizer_of(model.trainable_variables)
    before = numbers(model.trainable_variables)
    made = LossScale(optimizer, model, model.trainable_variables)
    made.apply([tf.constant([[80_000.0]])], lambda given: given, model.trainable_variables)
    assert (numbers(model.trainable_variables) == before) == skipped
    assert float(optimizer.dynamic_scale) == (512.0 if skipped else 1024.0)


def test_the_scale_is_undone_before_gradients_go_back_to_other_variables() -> None:
    variable = keras.Variable(np.zeros(1, np.float32))
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    optimizer = optimizer_of([variable])
    seen: list[float] = []

    def pull_back(gradients: list[Any]) -> list[Any]:
        seen.append(np.asarray(gradients[0]).item())
        return [tf.reshape(gradients[0] * 3.0, [1])]

    LossScale(optimizer, model, model.trainable_variables).apply([tf.constant([[2048.0]])], pull_back, [variable])
    assert seen == [2.0]
    assert np.asarray(variable.value) == pytest.approx(-3.0)
