"""Filters and activations as pictures."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from jobs.training.analysis.filters import (
    MOST_PIXELS,
    FirstLayer,
    activation_pictures,
    activations_model,
    example_pictures,
    filter_pictures,
    first_layer,
)

SHAPE = (12, 10, 3)


def model(*inner: Any, shape: tuple[int, ...] = SHAPE) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *inner, layers.Dense(4)])


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.flatten, self.dense = layers.Flatten(), layers.Dense(4)

    def call(self, x: Any) -> Any:
        return self.dense(self.flatten(x))


def called(model: keras.Model) -> keras.Model:
    model(np.zeros((1, *SHAPE), np.float32))
    return model


@pytest.mark.parametrize("before", [[], [layers.Rescaling(0.5)], [layers.ZeroPadding2D(1)]])
def test_a_convolutions_filters(before: list[Any]) -> None:
    made = model(*before, layers.Conv2D(5, 3, name="seen"), layers.Flatten())
    first = first_layer(made, SHAPE)
    assert isinstance(first, FirstLayer)
    assert first.convolves
    assert first.layer.name == "seen"
    np.testing.assert_array_equal(first.weights, np.asarray(first.layer.kernel))


def test_a_dense_layers_weights_are_pictures_of_the_input() -> None:
    made = model(layers.Flatten(), layers.Dense(6, name="seen"))
    first = first_layer(made, SHAPE)
    assert isinstance(first, FirstLayer)
    assert not first.convolves
    assert first.weights.shape == (*SHAPE, 6)
    example = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    by_picture = (first.weights * example[..., np.newaxis]).sum(axis=(0, 1, 2))
    np.testing.assert_allclose(by_picture, np.asarray(first.layer(example.reshape(1, -1)))[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("made", "shape", "reason"),
    [
        (lambda: model(layers.LSTM(3), shape=(7, 2)), (7, 2), "not pictures"),
        (lambda: model(layers.Reshape((120, 3)), layers.LSTM(3)), SHAPE, "a LSTM"),
        (lambda: model(layers.Conv2D(3, 3), layers.Flatten(), shape=(9, 9, 5)), (9, 9, 5), "not pictures"),
        (lambda: model(layers.BatchNormalization(), layers.Flatten()), SHAPE, "a BatchNormalization"),
        (lambda: called(Subclassed()), SHAPE, "built while it is called"),
    ],
)
def test_others_are_left_out_with_a_reason(made: Any, shape: tuple[int, ...], reason: str) -> None:
    found = first_layer(made(), shape)
    assert isinstance(found, str)
    assert reason in found


def test_the_model_is_cut_off_behind_the_layer() -> None:
    made = model(layers.Conv2D(5, 3, activation="relu"), layers.Flatten())
    first = first_layer(made, SHAPE)
    assert isinstance(first, FirstLayer)
    images = np.random.default_rng(0).random((2, *SHAPE)).astype(np.float32)
    cut = activations_model(made, first.layer)
    np.testing.assert_array_equal(np.asarray(cut(images)), np.asarray(first.layer(images)))
    assert {id(variable) for variable in cut.variables} <= {id(variable) for variable in made.variables}


def test_a_weight_of_zero_is_grey_and_signs_are_seen() -> None:
    weights = np.zeros((2, 2, 1, 3), np.float32)
    weights[0, 0, 0, 0], weights[1, 1, 0, 1] = 0.5, -0.5
    pictures = filter_pictures(weights)
    assert pictures.shape == (3, 2, 2, 1)
    assert (pictures[0, 0, 0, 0], pictures[1, 1, 1, 0]) == (255, 0)
    assert set(pictures[2].reshape(-1).tolist()) == {128}
    assert filter_pictures(np.zeros((2, 2, 1, 3), np.float32)).max() == 128


def test_activations_share_one_scale() -> None:
    values = np.stack([np.full((4, 4), 0.0), np.full((4, 4), 1.0), np.full((4, 4), 2.0)], axis=-1).astype(np.float32)
    assert [picture.max() for picture in activation_pictures(values)] == [0, 128, 255]
    assert activation_pictures(np.array([0.0, 3.0], np.float32)).reshape(-1).tolist() == [0, 255]


def test_large_examples_are_thinned_out_and_signed_ones_spread() -> None:
    large = np.random.default_rng(0).integers(0, 256, (2, 300, 200, 3)).astype(np.uint8)
    pictures = example_pictures(large, 255.0)
    assert max(pictures.shape[1:3]) <= MOST_PIXELS
    np.testing.assert_array_equal(pictures, large[:, ::4, ::4])
    signed = example_pictures(np.array([-1.0, 0.0, 1.0], np.float32).reshape(1, 1, 3, 1), 1.0)
    assert signed.reshape(-1).tolist() == [0, 128, 255]
