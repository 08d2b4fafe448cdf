"""Models by name, what they take, and the checks that every model passes."""

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.models.registry import (
    build_model,
    model_inputs,
    refuse_compiled_sums,
    registered_models,
    synchronise_batch_normalisation,
)
from service.errors import InvalidInput, UnknownName, UserFailure
from service.specs.train import TrainSpec

MakeSpec = Callable[..., TrainSpec]


def layers_of(model: keras.Model) -> list[tuple[Any, ...]]:
    """Kind and telling arguments of each layer."""
    seen: list[tuple[Any, ...]] = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            seen.append(("conv", layer.filters, layer.kernel_size, layer.padding, layer.activation.__name__))
        elif isinstance(layer, keras.layers.Dense):
            seen.append(("dense", layer.units, layer.activation.__name__))
        elif isinstance(layer, keras.layers.Dropout):
            seen.append(("dropout", layer.rate))
        elif hasattr(layer, "pool_size"):
            seen.append((type(layer).__name__, layer.pool_size))
        else:
            seen.append((type(layer).__name__,))
    return seen


def test_the_files_of_the_folder_are_the_registered_models() -> None:
    assert registered_models() == ["cnn", "dense", "elman", "gru", "jordan", "lenet5", "lstm", "simple-rnn"]


def test_the_cnn_is_the_lectures(make_spec: MakeSpec) -> None:
    model = build_model(make_spec(model="cnn"), (28, 28, 1), 10, None)
    assert model.count_params() == 454_922
    assert layers_of(model) == [
        ("conv", 32, (5, 5), "same", "relu"),
        ("MaxPooling2D", (2, 2)),
        ("conv", 64, (5, 5), "same", "relu"),
        ("MaxPooling2D", (2, 2)),
        ("Flatten",),
        ("dense", 128, "relu"),
        ("dropout", 0.25),
        ("dense", 10, "linear"),
    ]


@settings(max_examples=8, deadline=None)
@given(
    height=st.integers(4, 33),
    width=st.integers(4, 33),
    channels=st.integers(1, 3),
    a=st.integers(1, 6),
    b=st.integers(1, 6),
    k=st.integers(1, 5),
    u=st.integers(1, 9),
    classes=st.integers(2, 12),
)
def test_the_cnn_has_as_many_parameters_as_its_formula_says(
    height: int, width: int, channels: int, a: int, b: int, k: int, u: int, classes: int
) -> None:
    params = {"filters": [a, b], "kernel": k, "units": u}
    spec = TrainSpec(model="cnn", model_params=params, dataset="digits", epochs=1)
    model = build_model(spec, (height, width, channels), classes, None)
    flat = (height // 4) * (width // 4) * b
    assert model.count_params() == a * (k * k * channels + 1) + b * (k * k * a + 1) + u * (flat + 1) + classes * (u + 1)


def test_batch_normalisation_stands_between_convolution_and_relu(make_spec: MakeSpec) -> None:
    kinds = [
        type(layer).__name__
        for layer in build_model(make_spec(model="cnn", model_params={"batch_norm": True}), (8, 8, 1), 3, None).layers
    ]
    assert kinds[:4] == ["Conv2D", "BatchNormalization", "Activation", "MaxPooling2D"]
    plain, normalised = (
        build_model(make_spec(model="cnn", model_params={"filters": [4, 6], "batch_norm": wanted}), (8, 8, 1), 3, None)
        for wanted in (False, True)
    )
    assert normalised.count_params() == plain.count_params() + 4 * (4 + 6)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 28, 1), (2, 3, 3), (8, 8, 1)])
def test_the_cnn_takes_images_with_little_to_pool(make_spec: MakeSpec, shape: tuple[int, ...]) -> None:
    assert build_model(make_spec(model="cnn"), shape, 3, None).output_shape == (None, 3)


@pytest.mark.parametrize("side", [5, 8, 14, 16, 27, 28, 32])
def test_lenet5_has_the_papers_layers_at_any_size_up_to_32(make_spec: MakeSpec, side: int) -> None:
    model = build_model(make_spec(model="lenet5"), (side, side, 1), 10, None)
    assert model.count_params() == 61_706
    shapes = {layer.name: layer.output.shape[1:] for layer in model.layers}
    wanted = {"c1": (28, 28, 6), "s2": (14, 14, 6), "c3": (10, 10, 16), "s4": (5, 5, 16), "c5": (1, 1, 120), "f6": (84,)}
    assert {name: shapes[name] for name in wanted} == wanted
    assert [entry for entry in layers_of(model) if entry[0] in ("conv", "dense", "AveragePooling2D")] == [
        ("conv", 6, (5, 5), "valid", "tanh"),
        ("AveragePooling2D", (2, 2)),
        ("conv", 16, (5, 5), "valid", "tanh"),
        ("AveragePooling2D", (2, 2)),
        ("conv", 120, (5, 5), "valid", "tanh"),
        ("dense", 84, "tanh"),
        ("dense", 10, "linear"),
    ]


@pytest.mark.parametrize("shape", [(28, 14, 1), (3, 32, 3), (1, 1, 1), (32, 8, 1), (40, 60, 3), (33, 20, 1)])
def test_lenet5_fits_images_that_are_not_square_or_larger(make_spec: MakeSpec, shape: tuple[int, ...]) -> None:
    model = build_model(make_spec(model="lenet5"), shape, 10, None)
    assert model.get_layer("c1").output.shape[1:] == (28, 28, 6)
    assert model.count_params() == 61_706 + 150 * (shape[2] - 1)


def test_lenet5_pads_a_28_pixel_image_by_two_zeros_on_each_side(make_spec: MakeSpec) -> None:
    model = build_model(make_spec(model="lenet5"), (28, 28, 1), 10, None)
    image = np.random.default_rng(0).random((1, 28, 28, 1), np.float32)
    padded = keras.Model(model.inputs[0], model.get_layer("c1").input)(image)
    assert (np.pad(image, ((0, 0), (2, 2), (2, 2), (0, 0))) == np.asarray(padded)).all()


def test_lenet5_takes_the_maximum_and_drops_out_where_asked(make_spec: MakeSpec) -> None:
    params = {"pooling": "max", "activation": "relu", "dropout": 0.5}
    kinds = layers_of(build_model(make_spec(model="lenet5", model_params=params), (28, 28, 1), 10, None))
    assert [kind for kind in kinds if kind[0] == "MaxPooling2D"] == [("MaxPooling2D", (2, 2))] * 2
    assert kinds[-2] == ("dropout", 0.5)


def test_dense_without_hidden_layers_is_softmax_regression(make_spec: MakeSpec) -> None:
    model = build_model(make_spec(model_params={"hidden": []}), (28, 28, 1), 10, None)
    assert model.count_params() == 7_850
    images = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    kernel, bias = (np.asarray(value, np.float64) for value in model.get_weights())
    np.testing.assert_allclose(np.asarray(model(images)), images.reshape(3, -1).astype(np.float64) @ kernel + bias, 1e-4, 1e-5)


@pytest.mark.parametrize("shape", [(7,), (4, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("hidden", [[5], [6, 4], [3, 3, 3]])
def test_dense_takes_arrays_of_any_shape(make_spec: MakeSpec, shape: tuple[int, ...], hidden: list[int]) -> None:
    model = build_model(make_spec(model_params={"hidden": hidden, "dropout": 0.5}), shape, 4, None)
    sizes = [int(np.prod(shape)), *hidden, 4]
    assert model.count_params() == sum((before + 1) * after for before, after in itertools.pairwise(sizes))
    assert sum(isinstance(layer, keras.layers.Dropout) for layer in model.layers) == len(hidden)


@pytest.mark.parametrize("name", registered_models())
def test_logits_are_float32_under_mixed_precision(make_spec: MakeSpec, name: str) -> None:
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_model(make_spec(model=name), (28, 28, 1), 10, None)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert model.compute_dtype == "float32" or model.layers[-1].compute_dtype == "float32"
    assert keras.backend.standardize_dtype(model(np.zeros((1, 28, 28, 1), np.float32)).dtype) == "float32"
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}


@pytest.mark.parametrize("name", registered_models())
def test_the_same_seed_gives_the_same_weights(make_spec: MakeSpec, name: str) -> None:
    def weights(seed: int) -> list[np.ndarray]:
        keras.utils.set_random_seed(seed)
        made: list[np.ndarray] = build_model(make_spec(model=name), (28, 28, 1), 10, None).get_weights()
        return made

    assert all((a == b).all() for a, b in zip(weights(1), weights(1), strict=True))
    assert not all((a == b).all() for a, b in zip(weights(1), weights(2), strict=True))


@pytest.mark.parametrize(
    ("model", "params", "message"),
    [
        ("cnn", {"filter": [3]}, "model_params do not fit the model 'cnn': got an unexpected keyword argument 'filter'"),
        ("cnn", {"filters": 3}, "filters is 3, but it must be a list of positive whole numbers"),
        ("cnn", {"filters": [3, 0]}, r"filters is \[3, 0\], but it must be a list"),
        ("cnn", {"filters": [True]}, "must be a list of positive whole numbers"),
        ("cnn", {"kernel": 2.5}, "kernel is .*2.5.*whole number"),
        ("cnn", {"units": -1}, "units is .*-1.*whole number"),
        ("cnn", {"units": 10**9}, "units is .*whole number"),
        ("cnn", {"dropout": 1}, "dropout is 1, but it must be a number from 0 to below 1"),
        ("cnn", {"dropout": "0.5"}, "dropout is 0.5, but it must be a number"),
        ("cnn", {"input_shape": [3]}, "model_params do not fit the model 'cnn'"),
        ("lenet5", {"activation": "softplus"}, "activation is 'softplus', but it must be tanh or relu or sigmoid"),
        ("lenet5", {"pooling": ["max"]}, "pooling is .*must be average or max"),
        ("lenet5", {"dropout": -0.1}, "dropout is -0.1"),
        ("dense", {"hidden": "512"}, "hidden is 512, but it must be a list"),
        ("dense", {"hidden": [1.5]}, "hidden is"),
        ("dense", {"activation": None}, "activation is 'None', but it must be relu or"),
        ("dense", {"dropout": True}, "dropout is True"),
    ],
)
def test_wrong_parameters_are_refused_in_one_sentence(
    make_spec: MakeSpec, model: str, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as refused:
        build_model(make_spec(model=model, model_params=params), (28, 28, 1), 10, None)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("model", ["cnn", "lenet5"])
def test_examples_that_are_no_images_are_sent_to_dense(make_spec: MakeSpec, model: str) -> None:
    with pytest.raises(InvalidInput, match=r"takes images of shape .* but the dataset's examples are \(30,\): use dense"):
        build_model(make_spec(model=model), (30,), 10, None)


@pytest.mark.parametrize("name", ["resnet", "user_code", "user-code", "parameters", "context", "recurrence", "Cnn"])
def test_an_unknown_model_is_refused_with_those_that_are_known(make_spec: MakeSpec, name: str) -> None:
    spec = make_spec().model_copy(update={"model": name})
    with pytest.raises(
        UnknownName,
        match=r"use cnn or dense or elman or gru or jordan or lenet5 or lstm or simple-rnn, or your own as my_package\.nets:build",
    ):
        build_model(spec, (28, 28, 1), 10, None)


def test_several_features_need_a_model_of_ones_own(make_spec: MakeSpec) -> None:
    with pytest.raises(InvalidInput, match="takes one input and 'digits' has 2"):
        build_model(make_spec(), {"a": (3,), "b": (4,)}, 10, None)


def test_one_feature_by_name_is_one_input(make_spec: MakeSpec) -> None:
    assert build_model(make_spec(model_params={"hidden": []}), {"image": (28, 28, 1)}, 10, None).count_params() == 7_850


def two_inputs(*names: str) -> keras.Model:
    tensors = [keras.Input((3,), name=name) for name in names]
    return keras.Model(tensors, keras.layers.Concatenate()(tensors) if len(tensors) > 1 else tensors[0])


def test_features_go_to_the_inputs_of_their_names_else_in_order() -> None:
    features = {"left": 1, "right": 2}
    assert model_inputs(two_inputs("right", "left"), features) == [2, 1]
    assert model_inputs(two_inputs("p", "q"), features) == [1, 2]
    assert model_inputs(two_inputs("right"), features) == 2
    assert model_inputs(two_inputs("p"), {"left": 1}) == 1
    assert model_inputs(two_inputs("p", "q"), {"left": 1}) == [1, 1]
    with pytest.raises(UserFailure, match=r"has 3 inputs \(p, q, r\) and the dataset 2 features \(left, right\)"):
        model_inputs(two_inputs("p", "q", "r"), features)


def test_a_subclassed_model_gets_the_features_themselves() -> None:
    class Own(keras.Model):
        pass

    assert model_inputs(Own(), {"left": 1, "right": 2}) == {"left": 1, "right": 2}
    assert model_inputs(Own(), {"left": 1}) == 1


def test_batch_normalisation_is_synchronised_wherever_it_is() -> None:
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), keras.layers.BatchNormalization()])
    model = keras.Sequential([keras.Input((4,)), inner, keras.layers.BatchNormalization(), keras.layers.Dense(2)])
    synchronise_batch_normalisation(model)
    assert [layer.synchronized for layer in (inner.layers[1], model.layers[1])] == [True, True]


class RunningMean(keras.layers.Layer):
    def build(self, shape: Any) -> None:
        self.mean = self.add_weight(shape=shape[1:], initializer="zeros", trainable=False, aggregation="mean", name="mean")

    def call(self, x: Any, training: bool = False) -> Any:
        return x - self.mean


@pytest.mark.parametrize(
    ("layer", "refused"),
    [
        (lambda: keras.layers.BatchNormalization(name="sums"), True),
        (lambda: keras.Sequential([keras.layers.BatchNormalization(name="sums")]), True),
        (lambda: keras.layers.BatchNormalization(trainable=False), False),
        (lambda: RunningMean(name="sums"), True),
        (keras.layers.LayerNormalization, False),
        (lambda: keras.layers.Dropout(0.5), False),
    ],
)
def test_a_layer_that_sums_over_the_workers_is_not_compiled(layer: Callable[[], keras.layers.Layer], refused: bool) -> None:
    model = keras.Sequential([keras.Input((4,)), layer(), keras.layers.Dense(2)])
    if refused:
        with pytest.raises(InvalidInput, match=r"cannot compile the layer 'sums'.*use -s jit_compile=false, or workers=1"):
            refuse_compiled_sums(model)
    else:
        refuse_compiled_sums(model)
