"""What is said of a user's model before its first step: parts that are not used, and a last activation in every form."""

import sys
import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from jobs.artifacts.model_graph import model_graph
from jobs.models.registry import build_model, model_inputs
from jobs.tasks.registry import task_for
from jobs.training.model_remarks import Built, remarks
from service.datasets import Feature
from service.specs.train import TrainSpec

MakeSpec = Callable[..., TrainSpec]
Make = Callable[[Any, int], keras.Model]
SHAPE, CLASSES = (6, 2), 3


def say(spec: TrainSpec, make: Make, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The remarks on a model, as a context makes them."""
    module = types.ModuleType("remarked_nets")
    module.build = make  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "remarked_nets", module)
    task, zeros = task_for(spec), []
    model = build_model(
        spec, SHAPE, task.outputs(CLASSES), None, task.every_step, lambda outputs: zeros.append(np.asarray(outputs, np.float32))
    )
    features = [Feature("x", "float32", SHAPE)]

    def graph() -> bytes:
        return model_graph(model, {"x": (SHAPE, "float32")}, lambda batch: model_inputs(model, batch))

    return remarks(Built(model, spec, task.every_step, features, CLASSES, graph, zeros[0]))


def ends_with(*last: Callable[[int], Any]) -> Make:
    """A Sequential model that ends with these layers, each made for a number of outputs."""
    return lambda shape, classes: keras.Sequential([keras.Input(shape), layers.Flatten(), *(make(classes) for make in last)])


def calls(function: Callable[[Any], Any]) -> Make:
    """A functional model that ends with a function of its logits."""

    def make(shape: Any, classes: int) -> keras.Model:
        inputs = keras.Input(shape)
        return keras.Model(inputs, function(layers.Dense(classes)(layers.Flatten()(inputs))))

    return make


class Own(keras.Model):
    """A subclassed model that ends with a function of its logits."""

    def __init__(self, classes: int, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.flatten, self.dense, self.function = layers.Flatten(), layers.Dense(classes), function

    def call(self, x: Any) -> Any:
        return self.function(self.dense(self.flatten(x)))


def dense(activation: Any = None) -> Callable[[int], Any]:
    return lambda classes: layers.Dense(classes, activation=activation)


def by_hand(logits: Any) -> Any:
    exponentials = keras.ops.exp(logits - keras.ops.max(logits, axis=-1, keepdims=True))
    return exponentials / keras.ops.sum(exponentials, axis=-1, keepdims=True)


def averaged(shape: Any, classes: int) -> keras.Model:
    inputs = keras.Input(shape)
    two = [layers.Dense(classes, activation="softmax")(layers.Flatten()(inputs)) for _ in range(2)]
    return keras.Model(inputs, layers.Average()(two))


SOFTMAXES: dict[str, Make] = {
    "dense": ends_with(dense("softmax")),
    "activation": ends_with(dense(), lambda classes: layers.Activation("softmax")),
    "layer": ends_with(dense(), lambda classes: layers.Softmax()),
    "lambda": ends_with(dense(), lambda classes: layers.Lambda(tf.nn.softmax)),
    "before dropout": ends_with(dense("softmax"), lambda classes: layers.Dropout(0.5)),
    "nested": ends_with(lambda classes: keras.Sequential([layers.Dense(classes), layers.Softmax()])),
    "ops": calls(keras.ops.softmax),
    "ops.nn": calls(keras.ops.nn.softmax),
    "activations": calls(keras.activations.softmax),
    "by hand": calls(by_hand),
    "an average of two": averaged,
    "own": lambda shape, classes: Own(classes, tf.nn.softmax),
    "own sparsemax": lambda shape, classes: Own(classes, keras.activations.sparsemax),
}


@pytest.mark.parametrize("form", SOFTMAXES)
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_last_softmax_is_reported_in_whatever_form(
    make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, form: str, precision: str
) -> None:
    keras.mixed_precision.set_dtype_policy(precision)
    try:
        (said,) = say(make_spec(model="remarked_nets:build"), SOFTMAXES[form], monkeypatch)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert said.startswith("The model 'remarked_nets:build' ends with a softmax")
    # Nothing is below the loss of certain answers that are right.
    least = keras.losses.CategoricalCrossentropy(from_logits=True)(np.eye(CLASSES), np.eye(CLASSES))
    assert f"cannot fall below {float(least):.4f}" in said


@pytest.mark.parametrize(
    "make",
    [
        ends_with(dense()),
        ends_with(dense("elu")),
        calls(keras.ops.log_softmax),
        calls(lambda logits: keras.ops.log(keras.ops.softmax(logits))),
        calls(lambda logits: logits * keras.ops.softmax(logits)),
        lambda shape, classes: Own(classes, lambda logits: logits / 3.0),
        ends_with(lambda classes: layers.Dense(8, activation="softmax"), dense()),
    ],
)
def test_logits_of_any_kind_are_passed_over(make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    assert say(make_spec(model="remarked_nets:build"), make, monkeypatch) == []


@pytest.mark.parametrize(("activation", "least"), [("sigmoid", np.eye(3)), ("tanh", 2 * np.eye(3) - 1), ("relu", None)])
def test_other_activations_with_bounds_are_named(
    make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, activation: str, least: Any
) -> None:
    (said,) = say(make_spec(model="remarked_nets:build"), ends_with(dense(activation)), monkeypatch)
    assert f"ends with a {activation} (layer 'dense" in said
    if least is not None:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)(np.eye(CLASSES), least.astype(np.float32))
        assert f"cannot fall below {float(loss):.4f}" in said


def test_a_sigmoid_over_bits_is_reported_with_what_it_does(make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(
        model="remarked_nets:build", dataset="bits", dataset_params={"delay": 2, "variant": "recall"}, task="bit-memory"
    )

    def make(shape: Any, outputs: int) -> keras.Model:
        return keras.Sequential([keras.Input(shape), layers.Dense(outputs, activation="sigmoid")])

    (said,) = say(spec, make, monkeypatch)
    assert "every bit is read as a 1" in said


class Loop(Own):
    """A model with a training loop of its own."""

    def train_step(self, data: Any) -> Any:
        return super().train_step(data)

    def compute_loss(self, *arguments: Any, **options: Any) -> Any:
        return 0.0


class Regular(Own):
    """A model that adds to the loss."""

    def call(self, x: Any) -> Any:
        logits = super().call(x)
        self.add_loss(keras.ops.mean(logits**2))
        return logits


def compiled(shape: Any, classes: int) -> keras.Model:
    model = ends_with(dense())(shape, classes)
    model.compile(optimizer=keras.optimizers.Adam(0.1), loss="mse", metrics=["mae"], jit_compile=True)
    return model


def instance(shape: Any, classes: int) -> keras.Model:
    model = ends_with(dense())(shape, classes)
    model.train_step = lambda data: {}
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda shape, classes: Loop(classes, tf.identity), "has its own train_step and compute_loss (Loop), not used here"),
        (instance, "has its own train_step"),
        (compiled, "was compiled with the optimizer Adam, the loss mse, metrics and jit_compile=True, not used here"),
        (lambda shape, classes: Regular(classes, tf.identity), "adds to the loss by add_loss or an activity_regularizer"),
        (ends_with(lambda classes: layers.Dense(classes, kernel_regularizer="l2")), "adds to the loss by regularizers of its"),
        (ends_with(lambda classes: layers.Dense(classes, activity_regularizer="l2")), "add_loss or an activity_regularizer:"),
    ],
)
def test_parts_of_a_training_loop_are_named(make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, make: Make, words: str) -> None:
    (said,) = say(make_spec(model="remarked_nets:build"), make, monkeypatch)
    assert words in said
