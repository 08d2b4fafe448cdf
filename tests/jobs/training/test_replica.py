"""The compiled steps of one worker, against a plain loop over Keras and NumPy."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from jobs.training.replica import Replica
from jobs.training.variables import copy_model
from service.specs.train import TrainSpec

MakeSpec = Callable[..., TrainSpec]
MakeReplica = Callable[..., Replica]
STEPS, BATCH, WIDTH, CLASSES = 6, 8, 5, 3
NO_FLAGS = np.zeros(0, np.float32)


def chunk(seed: int = 0, kind: str = "float32") -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    images = rng.random((STEPS, BATCH, WIDTH), np.float32)
    stored = (images * 255).astype(np.uint8) if kind == "uint8" else images
    return {"x": stored}, rng.integers(0, CLASSES, (STEPS, BATCH)).astype(np.int32)


def dense(*more: layers.Layer, regularizer: Any = None) -> keras.Model:
    hidden = layers.Dense(7, "tanh", kernel_regularizer=regularizer)
    return keras.Sequential([keras.Input((WIDTH,)), hidden, *more, layers.Dense(CLASSES)])


def busy() -> keras.Model:
    """With all that has a state: batch normalisation, dropout, a layer that draws unseeded."""

    class Noise(layers.Layer):
        def call(self, x: Any, training: bool = False) -> Any:
            return x + keras.random.normal((BATCH, 7), stddev=0.1) if training else x

    return dense(layers.BatchNormalization(), Noise(), layers.Dropout(0.3), regularizer=keras.regularizers.L2(0.01))


def everything(replica: Replica) -> list[bytes]:
    return [array.tobytes() for tensors in replica.copies() for array in tensors.values()]


def train(replica: Replica, cuts: list[int], seed: int = 0) -> np.ndarray:
    features, labels = chunk(seed)
    sums, first = [], 0
    for count in cuts:
        part = {name: array[first : first + count] for name, array in features.items()}
        sums.append(replica.train(part, labels[first : first + count], NO_FLAGS).sums)
        first += count
    return np.concatenate(sums)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adamw"])
def test_many_steps_in_one_call_are_as_many_calls_of_one_step_bit_for_bit(
    make_spec: MakeSpec, make_replica: MakeReplica, optimizer: str
) -> None:
    spec = make_spec(optimizer={"name": optimizer, "learning_rate": {"name": "cosine", "initial": 0.1}, "weight_decay": 0.01})
    results = []
    for cuts in ([6], [1] * 6, [2, 3, 1]):
        replica = make_replica(spec, busy)
        sums = train(replica, cuts)
        assert sums.shape == (STEPS, 2)
        results.append((sums.tobytes(), everything(replica)))
    assert results[0] == results[1] == results[2]


def realisation(seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).random((12, WIDTH), np.float32)


TARGET = {"name": "target", "ridge": 0.01}


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_target_space_too_however_the_steps_are_cut(make_spec: MakeSpec, make_replica: MakeReplica, jit_compile: bool) -> None:
    spec = make_spec(space=TARGET, optimizer={"name": "adam", "learning_rate": 0.01}, jit_compile=jit_compile)
    results = []
    for cuts in ([6], [1] * 6, [2, 3, 1]):
        replica = make_replica(spec, lambda: dense(layers.Dropout(0.3)), realisation=realisation())
        results.append((train(replica, cuts).tobytes(), everything(replica)))
    assert results[0] == results[1] == results[2]


def test_a_step_in_target_space_is_one_of_the_targets_of_a_plain_loop(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    spec = make_spec(space=TARGET, optimizer={"name": "sgd", "learning_rate": 0.5})
    replica = make_replica(spec, lambda: dense(regularizer=keras.regularizers.L2(0.1)), realisation=realisation())
    features, labels = chunk()
    hidden, output = (tf.Variable(np.asarray(variable.value)) for variable in replica.space.variables)
    ones = tf.ones((12, 1))

    def solved(rows: Any, targets: Any) -> Any:
        gram = tf.matmul(rows, rows, transpose_a=True) + 0.01 * tf.eye(rows.shape[1])
        return tf.linalg.solve(gram, tf.matmul(rows, targets, transpose_a=True))

    with tf.GradientTape() as tape:
        first = tf.concat([ones, realisation()], axis=1)
        w = solved(first, hidden)
        v = solved(tf.concat([ones, tf.tanh(tf.matmul(first, w))], axis=1), output)
        logits = tf.matmul(tf.tanh(tf.matmul(features["x"][0], w[1:]) + w[0]), v[1:]) + v[0]
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels[0], logits))
        loss += 0.1 * tf.reduce_sum(w[1:] ** 2)
    for variable, gradient in zip((hidden, output), tape.gradient(loss, (hidden, output)), strict=True):
        variable.assign_sub(0.5 * gradient)
    replica.train({"x": features["x"][:1]}, labels[:1], NO_FLAGS)
    for got, wanted in zip(replica.space.variables, (hidden, output), strict=True):
        np.testing.assert_allclose(np.asarray(got.value), wanted.numpy(), rtol=1e-3, atol=1e-4)


def test_weights_follow_from_targets_when_they_are_asked_for(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    spec = make_spec(space=TARGET, optimizer={"name": "sgd", "learning_rate": 0.5})
    replica = make_replica(spec, dense, realisation=realisation())
    train(replica, [STEPS])
    older = replica.model.get_weights()
    realised = replica.realised_model()
    assert realised is replica.model
    weights = realised.get_weights()
    assert not all((a == b).all() for a, b in zip(weights, older, strict=True))
    replica.space.realise()
    for got, wanted in zip(weights, replica.model.get_weights(), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def reference_step(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, x: np.ndarray, y: np.ndarray
) -> tuple[float, float]:
    """Keras' own loss, a tape and the optimizer; the sums of loss and accuracy over the batch."""
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        logits = model(x, training=True)
        plain = loss_of(y, logits)
        loss = plain + (tf.add_n(model.losses) if model.losses else 0.0)
    optimizer.apply(tape.gradient(loss, [variable.value for variable in model.trainable_variables]), model.trainable_variables)
    return float(plain) * len(x), float((np.argmax(logits, -1) == y).sum())


@pytest.mark.parametrize(
    ("arguments", "build"),
    [
        ({"name": "adam", "learning_rate": 0.01}, dense),
        ({"name": "sgd", "learning_rate": 0.5, "momentum": 0.9}, dense),
        ({"name": "sgd", "learning_rate": 0.5, "global_clipnorm": 0.01}, dense),
        ({"name": "sgd", "learning_rate": 0.5, "clipnorm": 0.01}, dense),
        ({"name": "sgd", "learning_rate": 0.5, "clipvalue": 0.001}, dense),
        ({"name": "sgd", "learning_rate": 0.5, "weight_decay": 0.1}, dense),
        ({"name": "adam", "use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2}, dense),
        ({"name": "sgd", "learning_rate": 0.5}, lambda: dense(regularizer=keras.regularizers.L2(0.1))),
        ({"name": "sgd", "learning_rate": 0.5}, lambda: dense(layers.BatchNormalization())),
        ({"name": "sgd", "learning_rate": 0.5}, lambda: dense(layers.Dropout(0.5, seed=4), layers.ActivityRegularization(0.1))),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_steps_are_those_of_a_plain_loop_over_keras(
    make_spec: MakeSpec, make_replica: MakeReplica, arguments: dict[str, Any], build: Callable[[], keras.Model]
) -> None:
    spec = make_spec(optimizer=arguments)
    replica = make_replica(spec, build)
    initial = copy_model(replica.model)
    sums = train(replica, [STEPS])
    plain = make_replica(spec, build)
    assert all((array == initial[name]).all() for name, array in zip(initial, copy_model(plain.model).values(), strict=True))
    features, labels = chunk()
    wanted = [reference_step(plain.model, plain.optimizer, x, y) for x, y in zip(features["x"], labels, strict=True)]
    np.testing.assert_allclose(sums, wanted, rtol=1e-4)
    for got, reference in zip(replica.model.variables, plain.model.variables, strict=True):
        np.testing.assert_allclose(np.asarray(got.value), np.asarray(reference.value), rtol=1e-4, atol=1e-6, err_msg=got.path)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    log_sum = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
    return log_sum - np.take_along_axis(logits, labels[..., None], -1)[..., 0]


def test_stored_bytes_are_divided_by_the_features_scale(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    features, labels = chunk(kind="uint8")
    replica = make_replica(make_spec(), dense, scale=255.0)
    logits = np.stack([replica.model(batch.astype(np.float32) / 255).numpy() for batch in features["x"]])
    weights = np.ones(labels.shape, np.float32)
    loss, correct, count = replica.evaluate(features, labels, weights)
    assert loss == pytest.approx(cross_entropy(logits, labels).sum(), rel=1e-5)
    assert correct == (logits.argmax(-1) == labels).sum()
    assert count == labels.size


def test_what_weighs_nothing_adds_nothing_even_if_it_is_infinite(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    features, labels = chunk()
    replica = make_replica(make_spec(), dense)
    weights = (np.random.default_rng(1).random(labels.shape) < 0.5).astype(np.float32)
    wanted = replica.evaluate(features, labels, weights)
    features["x"][weights == 0] = np.inf
    np.testing.assert_array_equal(replica.evaluate(features, labels, weights), wanted)
    assert wanted[-1] == weights.sum()


def test_an_evaluation_changes_nothing_and_drops_nothing_out(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    replica = make_replica(make_spec(), busy)
    before = everything(replica)
    features, labels = chunk()
    first, second = (replica.evaluate(features, labels, np.ones(labels.shape, np.float32)) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert everything(replica) == before


def test_one_worker_gets_its_own_flags_and_values_back(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    replica = make_replica(make_spec(), dense)
    features, labels = chunk()
    flags = np.array([1, 0, 7.5], np.float32)
    result = replica.train(features, labels, flags)
    assert (result.flags == flags).all()
    assert result.sums.shape == (STEPS, 2)
    assert (replica.sum_over_workers(flags) == flags).all()


def test_a_scaled_loss_trains_like_an_unscaled_one(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    # The layers stay float32 here: the loss's scale alone must cancel out.
    results = []
    for precision in ("float32", "float16"):
        replica = make_replica(make_spec(precision=precision, optimizer={"name": "sgd", "learning_rate": 0.5}), dense)
        sums = train(replica, [STEPS])
        results.append([sums, *(np.asarray(variable.value) for variable in replica.model.variables)])
    for plain, scaled in zip(*results, strict=True):
        np.testing.assert_allclose(plain, scaled, rtol=1e-4, atol=1e-6)


def test_compiling_with_xla_trains_alike(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    results = []
    for jit in (False, True):
        replica = make_replica(make_spec(jit_compile=jit, optimizer={"name": "sgd", "learning_rate": 0.5}), dense)
        results.append([train(replica, [STEPS]), *(np.asarray(variable.value) for variable in replica.model.variables)])
    for plain, compiled in zip(*results, strict=True):
        np.testing.assert_allclose(plain, compiled, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_layers_train_with_float32_variables_and_losses(
    make_spec: MakeSpec, make_replica: MakeReplica, precision: str
) -> None:
    def build() -> keras.Model:
        keras.mixed_precision.set_dtype_policy(f"mixed_{precision}")
        try:
            return dense(layers.BatchNormalization())
        finally:
            keras.mixed_precision.set_dtype_policy("float32")

    replica = make_replica(make_spec(precision=precision, optimizer={"name": "sgd", "learning_rate": 0.5}), build)
    reference = make_replica(
        make_spec(optimizer={"name": "sgd", "learning_rate": 0.5}), lambda: dense(layers.BatchNormalization())
    )
    low, full = (np.concatenate([train(made, [STEPS]) for _ in range(5)]) for made in (replica, reference))
    assert replica.model.layers[0].compute_dtype == precision
    assert {variable.dtype for variable in replica.model.trainable_variables} == {"float32"}
    np.testing.assert_allclose(low[:, 0], full[:, 0], rtol=0.1)


def test_a_variable_that_the_loss_does_not_reach_gets_no_gradient(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    class Idle(layers.Layer):
        def build(self, shape: Any) -> None:
            self.idle = self.add_weight(shape=(2,), initializer="ones", name="idle")

        def call(self, x: Any) -> Any:
            return x

    replica = make_replica(make_spec(optimizer={"name": "sgd", "learning_rate": 0.5}), lambda: dense(Idle()))
    assert np.isfinite(train(replica, [STEPS])).all()
    (idle,) = [variable for variable in replica.model.variables if variable.path.endswith("idle")]
    assert (np.asarray(idle.value) == 1).all()


def test_layers_that_do_not_train_stay_as_they_are(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    def frozen() -> keras.Model:
        model = dense()
        model.layers[0].trainable = False
        return model

    replica = make_replica(make_spec(), frozen)
    before = [np.asarray(value) for value in replica.model.layers[0].get_weights()]
    train(replica, [STEPS])
    assert all((a == b).all() for a, b in zip(before, replica.model.layers[0].get_weights(), strict=True))


def test_forward_gives_what_the_model_gives_without_training(make_replica: MakeReplica, make_spec: MakeSpec) -> None:
    replica = make_replica(make_spec(), busy, scale=255.0)
    (features, _), before = chunk(kind="uint8"), everything(replica)
    images = features["x"][0]
    forward = replica.forward(replica.model)
    np.testing.assert_allclose(forward({"x": images}), np.asarray(replica.model(images / np.float32(255))), rtol=1e-5, atol=1e-6)
    part = keras.Model(replica.model.inputs, replica.model.layers[0].output)
    assert replica.forward(part)({"x": images}).shape == (BATCH, 7)
    assert everything(replica) == before


def test_calls_that_build_the_training_function_are_known_from_others(make_replica: MakeReplica, make_spec: MakeSpec) -> None:
    replica = make_replica(make_spec(), dense)
    assert replica.traces == 0
    train(replica, [2])
    built = replica.traces
    assert built == 1
    train(replica, [2, 2, 2])
    assert replica.traces == built


def test_one_worker_sums_nothing_over_others(make_replica: MakeReplica, make_spec: MakeSpec) -> None:
    assert make_replica(make_spec(), dense).all_reduce_seconds(3) == 0.0
