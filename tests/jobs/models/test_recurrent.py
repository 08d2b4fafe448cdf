"""The recurrent models: shapes, parameters and starts, and the hand-made networks against Keras and NumPy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.models.registry import build_model
from service.errors import InvalidInput
from service.specs.train import TrainSpec

MakeSpec = Callable[..., TrainSpec]
GATES = {"simple-rnn": 1, "elman": 1, "lstm": 4, "gru": 3}
MODELS = [*GATES, "jordan"]


def made(name: str, shape: tuple[int, ...], classes: int, every_step: bool, jit: bool = False, **params: Any) -> keras.Model:
    dataset: dict[str, Any] = {"dataset": "bits", "task": "bit-memory"} if every_step else {"dataset": "digits"}
    spec = TrainSpec(model=name, model_params=params, epochs=1, jit_compile=jit, **dataset)
    keras.utils.set_random_seed(1)
    return build_model(spec, shape, classes, None, every_step)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=4, deadline=None)
@given(
    steps=st.integers(1, 6),
    values=st.integers(1, 4),
    units=st.integers(1, 6),
    classes=st.integers(1, 4),
    every_step=st.booleans(),
)
def test_shapes_and_parameters(name: str, steps: int, values: int, units: int, classes: int, every_step: bool) -> None:
    model = made(name, (steps, values), classes, every_step, units=units)
    assert model.output_shape == ((None, steps, classes) if every_step else (None, classes))
    context, gates, biases = (classes, 1, 1) if name == "jordan" else (units, GATES[name], 2 if name == "gru" else 1)
    layer = gates * (values + context + biases) * units
    assert model.count_params() == layer + (units + 1) * classes


def test_the_notebooks_lstm_has_its_parameters() -> None:
    assert made("lstm", (28, 28, 1), 10, False, units=128, hidden=[10]).count_params() == 81_784


@pytest.mark.parametrize("name", ["simple-rnn", "lstm", "gru"])
def test_layers_stand_on_each_other(name: str) -> None:
    model = made(name, (5, 2), 3, False, units=[4, 6], hidden=[7], dropout=0.5)
    recurrent = [layer for layer in model.layers if hasattr(layer, "cell")]
    assert [(layer.units, layer.return_sequences) for layer in recurrent] == [(4, True), (6, False)]
    assert model.output_shape == (None, 3)


@pytest.mark.parametrize("name", MODELS)
def test_an_image_is_read_row_by_row(name: str) -> None:
    by_image, by_rows = made(name, (4, 3, 2), 5, False, units=3), made(name, (4, 6), 5, False, units=3)
    by_rows.set_weights(by_image.get_weights())
    images = np.random.default_rng(0).normal(size=(2, 4, 3, 2)).astype(np.float32)
    np.testing.assert_allclose(by_image(images), by_rows(images.reshape(2, 4, 6)), atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_the_last_step_is_the_answer_of_a_model_that_gives_one(name: str) -> None:
    one, every = made(name, (6, 2), 3, False, units=4), made(name, (6, 2), 3, True, units=4)
    every.set_weights(one.get_weights())
    x = np.random.default_rng(0).normal(size=(5, 6, 2)).astype(np.float32)
    np.testing.assert_allclose(one(x), every(x)[:, -1], atol=1e-6)


def gradients(model: keras.Model, x: np.ndarray, jit: bool) -> tuple[np.ndarray, list[np.ndarray]]:
    """Outputs, and the gradients of a loss that weighs each of them by itself."""
    weights = np.random.default_rng(2).normal(size=model(x).shape).astype(np.float32)
    variables = [variable.value for variable in model.trainable_variables]

    @tf.function(jit_compile=jit)
    def run(batch: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = model(batch, training=True)
            loss = tf.reduce_sum(weights * tf.tanh(outputs))
        return outputs, tape.gradient(loss, variables)

    outputs, found = run(tf.constant(x))
    return outputs.numpy(), [gradient.numpy() for gradient in found]


@pytest.mark.parametrize("every_step", [True, False])
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("units", [7, [7, 5]])
def test_elman_by_hand_is_keras_simple_rnn(every_step: bool, jit: bool, units: int | list[int]) -> None:
    hand = made("elman", (9, 3), 2, every_step, units=units)
    keras_own = made("simple-rnn", (9, 3), 2, every_step, units=units)
    keras_own.set_weights([np.linspace(-1, 1, w.size, dtype=w.dtype) if w.ndim == 1 else w for w in keras_own.get_weights()])
    hand.set_weights(by_hand(keras_own.get_weights()))
    x = np.random.default_rng(0).normal(size=(4, 9, 3)).astype(np.float32)
    outputs, found = gradients(hand, x, jit)
    wanted, expected = gradients(keras_own, x, jit)
    np.testing.assert_allclose(outputs, wanted, atol=1e-5)
    for gradient, of_keras in zip(found, by_hand(expected), strict=True):
        np.testing.assert_allclose(gradient, of_keras, rtol=1e-4, atol=1e-5)


def by_hand(weights: list[np.ndarray]) -> list[np.ndarray]:
    """Arrays of SimpleRNN layers and a Dense one, with the two kernels of each recurrent layer above each other."""
    *recurrent, kernel, bias = weights
    layers = [recurrent[place : place + 3] for place in range(0, len(recurrent), 3)]
    return [array for above, below, own in layers for array in (np.concatenate([above, below]), own)] + [kernel, bias]


def test_elman_begins_as_keras_simple_rnn_does() -> None:
    model = made("elman", (4, 3), 2, True, units=6)
    kernel, bias, *_ = model.get_weights()
    np.testing.assert_allclose(kernel[3:] @ kernel[3:].T, np.eye(6), atol=1e-5)
    assert np.abs(kernel[:3]).max() <= np.sqrt(6 / (3 + 6)) and not bias.any()


@pytest.mark.parametrize("classes", [1, 3])
def test_jordan_feeds_its_output_back(classes: int) -> None:
    model = made("jordan", (5, 2), classes, True, units=4)
    kernel, bias, out_kernel, out_bias = (w + 0.1 for w in model.get_weights())
    model.set_weights([kernel, bias, out_kernel, out_bias])
    x = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
    context, logits = np.zeros((3, classes)), []
    for step in range(5):
        hidden = np.tanh(np.concatenate([x[:, step], context], 1) @ kernel + bias)
        logits.append(hidden @ out_kernel + out_bias)
        powers = np.exp(logits[-1])
        context = 1 / (1 + 1 / powers) if classes == 1 else powers / powers.sum(1, keepdims=True)
    np.testing.assert_allclose(model(x), np.stack(logits, 1), atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_opens_and_answers_alike(name: str, tmp_path: Path) -> None:
    model = made(name, (5, 2), 3, True, units=4)
    model.save(tmp_path / "model.keras")
    opened = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    x = np.random.default_rng(0).normal(size=(2, 5, 2)).astype(np.float32)
    np.testing.assert_array_equal(opened(x), model(x))


def test_a_chain_remembers_before_it_has_learnt() -> None:
    delay = 6
    model = made("simple-rnn", (20, 1), 1, True, units=delay + 1, start="chain")
    *recurrent, _, bias = model.get_weights()
    model.set_weights([*recurrent, np.eye(delay + 1)[:, -1:], bias])
    x = np.random.default_rng(0).choice([-1.0, 1.0], (3, 20, 1)).astype(np.float32)
    assert (np.sign(model(x)[:, delay:]) == x[:, :-delay]).all()


def test_a_simple_network_starts_as_asked() -> None:
    def kernel(start: str) -> np.ndarray:
        return made("simple-rnn", (4, 1), 1, True, units=5, start=start).get_weights()[1]

    np.testing.assert_array_equal(kernel("identity"), np.eye(5))
    np.testing.assert_allclose(kernel("orthogonal") @ kernel("orthogonal").T, np.eye(5), atol=1e-5)
    assert np.abs(kernel("glorot") @ kernel("glorot").T - np.eye(5)).max() > 0.1


@pytest.mark.parametrize(
    ("name", "start"), [("simple-rnn", "orthogonal"), ("simple-rnn", "chain"), ("lstm", "simple"), ("gru", "constant")]
)
def test_the_scale_multiplies_the_first_input_kernel_alone(name: str, start: str) -> None:
    plain = made(name, (4, 2), 1, True, units=[5, 3], start=start).get_weights()
    scaled = made(name, (4, 2), 1, True, units=[5, 3], start=start, input_scale=0.3).get_weights()
    np.testing.assert_allclose(scaled[0], plain[0] * np.float32(0.3), rtol=1e-6)
    for one, other in zip(scaled[1:], plain[1:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_lstms_gates_start_as_asked() -> None:
    def bias(**params: Any) -> np.ndarray:
        return made("lstm", (30, 1), 1, True, units=50, **params).get_weights()[2].reshape(4, 50)

    np.testing.assert_array_equal(bias(), np.repeat([0.0, 1.0, 0.0, 0.0], 50).reshape(4, 50))
    np.testing.assert_array_equal(bias(forget_bias=2)[1], np.full(50, 2.0))
    enter, forget, *others = bias(start="chrono", longest=100)
    assert (enter == -forget).all() and not np.any(others)
    assert forget.min() >= 0 and np.log(20) < forget.max() <= np.log(99)
    assert bias(start="chrono")[1].max() <= np.log(39)
    np.testing.assert_array_equal(bias(start="chrono"), bias(start="chrono"))


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_gates_that_stand_open_hand_on_what_came_in(name: str) -> None:
    impulse = np.zeros((1, 30, 1), np.float32)
    impulse[0, 0] = 1.0

    def kept(**params: Any) -> float:
        """How much of the first step's state is left after 29 more."""
        model = made(name, (30, 1), 1, True, units=20, input_scale=0.1, **params)
        states = np.asarray(model.layers[0](impulse))[0]
        return float(np.linalg.norm(states[-1]) / np.linalg.norm(states[0]))

    assert kept(start="simple") > 0.5
    assert kept() < 0.05


def test_an_open_layer_begins_as_the_simple_network_of_its_candidate() -> None:
    x = np.random.default_rng(0).choice([-1.0, 1.0], (3, 12, 1)).astype(np.float32)
    model = made("gru", (12, 1), 1, True, units=20, start="simple", input_scale=0.05)
    kernel, recurrent, _ = (np.array(weight) for weight in model.layers[0].get_weights())
    gate = 1 / (1 + np.exp(-4.0))
    state, states = np.zeros((3, 20)), []
    for step in range(12):
        state = gate * (x[:, step] @ kernel[:, 40:] + gate * state @ recurrent[:, 40:]) + (1 - gate) * state
        states.append(state)
    np.testing.assert_allclose(model.layers[0](x), np.stack(states, 1), atol=0.02)


def test_compiled_models_do_without_cudnn() -> None:
    assert not made("lstm", (4, 1), 1, True, jit=True, units=3).layers[0].use_cudnn
    assert made("lstm", (4, 1), 1, True, units=3).layers[0].use_cudnn


def test_the_width_follows_the_delay_unless_it_is_given(make_spec: MakeSpec) -> None:
    def width(params: dict[str, Any], **model_params: Any) -> int:
        spec = make_spec(model="gru", dataset="bits", task="bit-memory", dataset_params=params, model_params=model_params)
        return build_model(spec, (9, 1), 1, None, True).layers[0].units

    assert (width({"delay": 7}), width({"delay": 7, "variant": "xor"}), width({"delay": 7}, units=2)) == (10, 12, 2)


def test_a_parameter_may_follow_the_delay(make_spec: MakeSpec) -> None:
    def kernel(scale: Any) -> np.ndarray:
        params = {"units": 4, "input_scale": scale}
        spec = make_spec(model="simple-rnn", dataset="bits", task="bit-memory", dataset_params={"delay": 16}, model_params=params)
        keras.utils.set_random_seed(1)
        return build_model(spec, (9, 1), 1, None, True).get_weights()[0]

    np.testing.assert_array_equal(kernel({"expression": "2 / dataset_params.delay ** 0.5"}), kernel(0.5))


@pytest.mark.parametrize(
    ("name", "shape", "params", "words"),
    [
        ("lstm", (5,), {}, "use dense"),
        ("lstm", (5, 2), {"units": []}, "empty list"),
        ("lstm", (5, 2), {"units": [4, 0]}, "positive whole numbers"),
        ("lstm", (5, 2), {"start": "warm"}, "constant or chrono or simple"),
        ("lstm", (5, 2), {"forget_bias": "big"}, "must be a number"),
        ("lstm", (5, 2), {"longest": 0}, "longest is 0, but it must be a positive whole number"),
        ("simple-rnn", (5, 2), {"start": "zero"}, "orthogonal or glorot or identity or chain"),
        ("simple-rnn", (5, 2), {"input_scale": 0}, "above 0"),
        ("gru", (5, 2), {"dropout": 1}, "below 1"),
        ("elman", (5, 2), {"units": "x"}, "units is x, but it must be a positive whole number"),
        ("jordan", (5, 2), {"units": [3, 4]}, r"units is \[3, 4\], but it must be a positive whole number"),
        ("cnn", (5, 2), {}, "one for each step: use elman"),
    ],
)  # fmt: skip
def test_refuses_in_one_sentence(name: str, shape: tuple[int, ...], params: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        made(name, shape, 3, True, **params)
