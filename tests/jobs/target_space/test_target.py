"""Target space on small models: its weights, its gradients against finite differences, and what it refuses."""

import importlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from jobs.target_space.solve import solve
from jobs.target_space.target import TargetSpace
from service.errors import InvalidInput
from service.registry import models
from service.specs.parts import SpaceSpec

Build = Callable[[], keras.Model]


def dense() -> keras.Model:
    hidden = [layers.Dense(4, "tanh"), layers.Dropout(0.5), layers.Dense(3, use_bias=False), layers.Activation("sigmoid")]
    return keras.Sequential([keras.Input((3,)), *hidden, layers.Dense(2)])


def convolutional() -> keras.Model:
    first = [layers.Rescaling(0.5), layers.Conv2D(3, 3, padding="same", activation="tanh"), layers.MaxPooling2D(2)]
    second = [layers.Conv2D(2, (2, 3), padding="valid", dilation_rate=(1, 1), activation="tanh"), layers.Flatten()]
    return keras.Sequential([keras.Input((6, 6, 2)), *first, *second, layers.Dense(2)])


def recurrent() -> keras.Model:
    return keras.Sequential([keras.Input((5, 2)), layers.SimpleRNN(4, return_sequences=True), layers.Dense(2)])


def stacked() -> keras.Model:
    twice = [layers.SimpleRNN(3, return_sequences=True), layers.SimpleRNN(4, activation="sigmoid", use_bias=False)]
    return keras.Sequential([keras.Input((5, 2)), *twice, layers.Dense(2)])


def functional() -> keras.Model:
    inputs = keras.Input((3,))
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(4, "tanh")(inputs)))


MODELS = [dense, convolutional, recurrent, stacked, functional]


def examples(model: keras.Model, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *model.input_shape[1:])).astype(np.float32)


def make_space(build: Build, count: int = 7, **keys: Any) -> tuple[keras.Model, TargetSpace]:
    keras.utils.set_random_seed(0)
    model = build()
    settings = SpaceSpec.model_validate({"name": "target", "ridge": 0.1, **keys})
    space = TargetSpace(model, examples(model, count), settings, seed=3)
    space.begin()
    return model, space


def array_of(variable: Any, dtype: Any = np.float32) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable).astype(dtype)


def weights(model: keras.Model) -> list[np.ndarray]:
    return [array_of(variable) for variable in model.trainable_variables]


@pytest.mark.parametrize("build", MODELS)
def test_forward_is_the_models_own(build: Build) -> None:
    model, space = make_space(build)
    x = examples(model, 4, seed=1)
    np.testing.assert_allclose(space.forward(x, training=False), model(x, training=False), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cascade", ["scu", "ocu"])
@pytest.mark.parametrize("build", MODELS)
def test_gradients_are_those_of_finite_differences(build: Build, cascade: str) -> None:
    model, space = make_space(build, cascade=cascade, count=5)
    generator = np.random.default_rng(0)
    slopes = [generator.normal(size=value.shape) for value in weights(model)]

    def loss() -> float:
        space.realise()
        return float(sum((value.astype(np.float64) * slope).sum() for value, slope in zip(weights(model), slopes, strict=True)))

    got = space.realise()([tf.constant(slope, tf.float32) for slope in slopes])
    for variable, gradient in zip(space.variables, got, strict=True):
        before, direction = array_of(variable), generator.normal(size=variable.shape)
        ends = []
        for sign in (1, -1):
            variable.assign(before + sign * 3e-3 * direction)
            ends.append(loss())
        variable.assign(before)
        wanted = (ends[0] - ends[1]) / 6e-3
        assert float((gradient.numpy() * direction).sum()) == pytest.approx(wanted, rel=0.03, abs=0.02), variable.name


def with_ones(rows: np.ndarray) -> np.ndarray:
    flat = rows.reshape(-1, rows.shape[-1])
    return np.concatenate([np.ones((len(flat), 1)), flat], axis=1)


def ridge(a: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.linalg.solve(a.T @ a + 0.1 * np.eye(a.shape[1]), a.T @ t.reshape(len(a), -1))


def test_a_recurrent_cascade_is_the_papers_in_numpy() -> None:
    model, space = make_space(recurrent)
    x = examples(model, 7).astype(np.float64)
    hidden, output = (array_of(variable, np.float64) for variable in space.variables)
    wished = np.tanh(hidden)
    before = np.concatenate([np.zeros_like(wished[:, :1]), wished[:, :-1]], axis=1)
    w = ridge(with_ones(np.concatenate([x, before], axis=-1)), hidden)
    bias, kernel, own = w[0], w[1:3], w[3:]
    state, states = np.zeros((7, 4)), []
    for t in range(5):
        state = np.tanh(x[:, t] @ kernel + state @ own + bias)
        states.append(state)
    v = ridge(with_ones(np.stack(states, axis=1)), output)
    for got, wanted in zip(weights(model), [kernel, own, bias, v[1:], v[0]], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("build", [dense, convolutional])
def test_a_small_ridge_and_enough_columns_meet_the_first_layers_targets(build: Build) -> None:
    model, space = make_space(build, count=2, ridge=1e-6)
    part = next(layer for layer in model.layers if layer.weights)
    inputs = examples(model, 2) * (0.5 if build is convolutional else 1.0)
    target = array_of(space.variables[0])
    np.testing.assert_allclose(part.activation(target), part(inputs), atol=1e-3)


@pytest.mark.parametrize("build", MODELS)
def test_targets_that_the_first_weights_give_lead_back_to_them(build: Build) -> None:
    keras.utils.set_random_seed(0)
    model = build()
    before = weights(model)
    settings = SpaceSpec(name="target", ridge=1e-7, realisation=60, initial="weights")
    TargetSpace(model, examples(model, 60), settings, seed=3).begin()
    for got, wanted in zip(weights(model), before, strict=True):
        np.testing.assert_allclose(got, wanted, atol=2e-3)


def test_first_targets_are_drawn_from_the_seed() -> None:
    first, again = (make_space(dense)[1] for _ in range(2))
    for a, b in zip(first.variables, again.variables, strict=True):
        assert array_of(a).tobytes() == array_of(b).tobytes()


def test_a_shorter_realisation_has_fewer_steps_of_targets() -> None:
    _, space = make_space(recurrent, realisation_length=3)
    assert [tuple(variable.shape) for variable in space.variables] == [(7, 3, 4), (7, 3, 2)]
    with pytest.raises(InvalidInput, match="have 5 steps"):
        make_space(recurrent, realisation_length=6)
    with pytest.raises(InvalidInput, match="no SimpleRNN"):
        make_space(dense, realisation_length=2)


def test_layers_that_do_not_learn_keep_their_weights() -> None:
    def frozen() -> keras.Model:
        model = dense()
        model.layers[0].trainable = False
        return model

    model, space = make_space(frozen)
    keras.utils.set_random_seed(0)
    assert len(space.variables) == 2
    np.testing.assert_array_equal(model.layers[0].kernel.value, frozen().layers[0].kernel.value)


def two_ways() -> keras.Model:
    inputs = keras.Input((3,))
    return keras.Model(inputs, layers.Dense(2)(layers.Add()([layers.Dense(3)(inputs), inputs])))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: keras.Sequential([keras.Input((3,)), layers.Dense(3), layers.BatchNormalization()]), "BatchNormalization"),
        (lambda: keras.Sequential([keras.Input((5, 2)), layers.LSTM(3)]), "is a LSTM"),
        (lambda: keras.Sequential([keras.Input((6, 6, 1)), layers.Conv2D(2, 3, strides=2)]), r"strides \(2, 2\)"),
        (lambda: keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(2, 3, groups=2)]), "groups"),
        (lambda: keras.Sequential([keras.Input((5, 2)), layers.SimpleRNN(3, activation="gelu")]), "activation gelu"),
        (lambda: keras.Sequential([keras.Input((5, 2)), layers.SimpleRNN(3, go_backwards=True)]), "go_backwards"),
        (lambda: keras.Sequential([keras.Input((5, 2)), layers.SimpleRNN(3, dropout=0.1)]), "dropout"),
        (lambda: keras.Sequential([keras.Input((5, 2)), layers.Masking(), layers.SimpleRNN(3)]), "masks"),
        (two_ways, "one chain"),
    ],
)
def test_refuses_in_one_sentence(build: Build, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        make_space(build)
    assert "space=weight" in str(caught.value)


def test_the_models_that_the_plan_lets_through_are_those_that_can_be_solved() -> None:
    def solvable(name: str) -> bool:
        module = importlib.import_module(f"jobs.models.{name.replace('-', '_')}")
        try:
            make_space(lambda: module.build((28, 28, 1), 10))
        except InvalidInput:
            return False
        return True

    assert [name for name in models() if solvable(name)] == [name for name, model in models().items() if model.solvable]


def test_nothing_becomes_nan_where_float32_would() -> None:
    """The case of the prototype: a delay of 200 with a ridge of 0.01; here its rows are all but dependent."""
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(3000, 4)) @ rng.normal(size=(4, 50)) * 10).astype(np.float32)
    gram = tf.constant(rows.T @ rows + np.float32(0.01) * np.eye(50, dtype=np.float32))
    with np.errstate(all="ignore"):
        try:
            in_float32 = tf.linalg.cholesky(gram).numpy()
        except tf.errors.InvalidArgumentError:
            in_float32 = np.full(1, np.nan)
    assert not np.isfinite(in_float32).all()
    assert np.isfinite(solve(tf.constant(rows), tf.constant(rows[:, :2]), 0.01).numpy()).all()
