"""Copies of variables, and the streams that the ranks draw from."""

from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.src.backend.common import global_state

from jobs.training.variables import GLOBAL_STREAM, assign_variables, copy_model, copy_variables, draw_differently
from service.errors import UserFailure


class Noise(layers.Layer):
    """A user's layer that draws without a generator of its own."""

    def call(self, x: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        return x + keras.random.normal((3, 4)) if training else x


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    keras.utils.set_random_seed(3)
    yield
    global_state.set_global_attribute("global_seed_generator", None)


def model(units: int = 4, noise: bool = False) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(units),
            layers.Dropout(0.5),
            layers.Dropout(0.5, seed=9),
            *([Noise()] if noise else []),
            layers.BatchNormalization(),
        ]
    )


def draws(made: keras.Model, count: int = 3) -> list[np.ndarray]:
    batch = np.random.default_rng(0).random((3, 4), np.float32)
    return [np.asarray(made(batch, training=True)) for _ in range(count)]


def alike(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all((a == b).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("noise", [False, True])
def test_what_was_copied_comes_back_bit_for_bit_and_draws_continue(noise: bool) -> None:
    made = model(noise=noise)
    draw_differently(made, 0)
    draws(made)
    copied = copy_model(made)
    wanted = draws(made)
    assert not alike(wanted[:2], wanted[1:])
    other = model(noise=noise)
    draw_differently(other, 0)
    draws(other, 1)
    assign_variables(other.variables, copied)
    again = copy_model(other)
    assert [array.tobytes() for array in copied.values()] == [array.tobytes() for array in again.values()]
    assert alike(wanted, draws(other))


def test_a_copy_is_not_changed_by_what_comes_later() -> None:
    made = model()
    copied = copy_model(made)
    kept = {name: array.copy() for name, array in copied.items()}
    for variable in made.variables:
        variable.assign(variable.value + 1)
    assert all((copied[name] == kept[name]).all() for name in kept)


def test_more_than_ten_and_a_hundred_variables_keep_their_order() -> None:
    variables = [keras.Variable(np.full((), index, np.float32)) for index in range(120)]
    copied = copy_variables(variables)
    for variable in variables:
        variable.assign(-1)
    assign_variables(variables, dict(reversed(copied.items())))
    assert [float(variable.numpy()) for variable in variables] == list(range(120))


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64", "int8", "uint32", "bool"])
def test_a_variable_of_any_type_comes_back(kind: str) -> None:
    variable = keras.Variable(np.array([[0, 1], [1, 1]]), dtype=kind, trainable=False)
    copied = copy_variables([variable])
    variable.assign(np.zeros((2, 2)))
    assign_variables([variable], copied)
    assert variable.dtype == kind
    assert (np.asarray(variable.value, np.float32) == [[0, 1], [1, 1]]).all()


def test_an_optimizers_variables_come_back() -> None:
    made, optimizer = model(), keras.optimizers.Adam(0.1)
    optimizer.build(made.trainable_variables)
    gradients = [np.ones(variable.shape, np.float32) for variable in made.trainable_variables]
    optimizer.apply(gradients)
    copied, weights = copy_variables(optimizer.variables), copy_model(made)
    optimizer.apply(gradients)
    wanted = copy_model(made)
    assign_variables(optimizer.variables, copied)
    assign_variables(made.variables, weights)
    optimizer.apply(gradients)
    assert alike(list(wanted.values()), list(copy_model(made).values()))


def test_another_model_is_refused() -> None:
    copied = copy_model(model())
    with pytest.raises(UserFailure, match="the model changed since the run began"):
        assign_variables(model(5).variables, copied)
    with pytest.raises(UserFailure, match="holds 8 variables and the model has 2"):
        assign_variables(keras.Sequential([keras.Input((4,)), layers.Dense(4)]).variables, copied)


def as_rank(rank: int, seed: int = 3) -> keras.Model:
    """The model of a rank; one at a time, as in a process of its own: the global generator is one for all."""
    keras.utils.set_random_seed(seed)
    made = model(noise=True)
    draw_differently(made, rank)
    return made


def streams(made: keras.Model) -> list[tuple[int, ...]]:
    return [tuple(int(value) for value in array) for name, array in copy_model(made).items() if "seed" in name]


def test_rank_0_draws_as_one_worker_alone() -> None:
    keras.utils.set_random_seed(3)
    alone = model()
    before = copy_variables(alone.variables)
    draw_differently(alone, 0)
    assert alike(list(before.values()), list(copy_variables(alone.variables).values()))


def test_every_rank_and_seed_has_streams_of_its_own() -> None:
    seen = [pair for seed in (3, 4) for rank in range(5) for pair in streams(as_rank(rank, seed))]
    # Three generators each; the one of seed 9 is the same whatever the run's seed.
    assert len(set(seen)) == 2 * 5 * 3 - 5
    assert all(counter == 0 for _, counter in seen)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_ranks_stream_is_a_function_of_seed_and_rank(rank: int) -> None:
    made = as_rank(rank)
    first, drawn = streams(made), draws(made)
    made = as_rank(rank)
    assert streams(made) == first
    assert alike(draws(made), drawn)
    assert not alike(draws(as_rank(rank, seed=4)), drawn)
    assert not alike(draws(as_rank(rank + 1)), drawn)


def test_weights_are_left_alone() -> None:
    lead, other = as_rank(0).get_weights(), as_rank(2).get_weights()
    assert alike(lead, other)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_rank_that_resumes_from_rank_0s_copy_draws_as_if_it_had_not_stopped(rank: int) -> None:
    made = as_rank(rank)
    draws(made)
    wanted = draws(made)
    lead = as_rank(0)
    draws(lead)
    copied = copy_model(lead)
    resumed = as_rank(0, seed=99)
    assign_variables(resumed.variables, copied)
    draw_differently(resumed, rank)
    assert [counter for _, counter in streams(resumed)] == [3, 3, 3]
    assert alike(draws(resumed), wanted)


def test_the_global_stream_is_counted_inside_a_compiled_function() -> None:
    made = model(noise=True)
    draw_differently(made, 0)
    compiled = tf.function(lambda: made(tf.ones((3, 4)), training=True))
    copied = copy_model(made)
    first = [compiled().numpy() for _ in range(3)]
    assert copy_model(made)[GLOBAL_STREAM][1] == copied[GLOBAL_STREAM][1] + 3
    assign_variables(made.variables, copied)
    assert alike(first, [compiled().numpy() for _ in range(3)])


def test_every_function_of_keras_that_draws_without_a_seed_is_counted() -> None:
    made = model()
    draw_differently(made, 0)
    copied = copy_model(made)

    def drawn() -> list[np.ndarray]:
        random = keras.random
        values = [random.normal((3,)), random.uniform((3,)), random.dropout(np.ones(9), 0.5), random.shuffle(np.arange(9))]
        return [np.asarray(value) for value in [*values, random.gamma((3,), 2.0), random.truncated_normal((3,))]]

    first = drawn()
    assert copy_model(made)[GLOBAL_STREAM][1] == 6
    assign_variables(made.variables, copied)
    assert alike(first, drawn())
