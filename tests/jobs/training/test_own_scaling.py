"""A model's own scaling of pictures that it gets as 0 to 1 already, in every form, and none where there is none."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from jobs.artifacts.model_graph import model_graph
from jobs.models.registry import model_inputs
from jobs.training.model_remarks import Built, remarks
from service.datasets import Feature
from service.specs.train import TrainSpec

MakeSpec = Callable[..., TrainSpec]
SHAPE, CLASSES = (8, 8, 3), 3
PICTURE = Feature("image", "uint8", SHAPE, 255.0)


def begins(*first: Any) -> keras.Model:
    return keras.Sequential([keras.Input(SHAPE), *first, layers.Flatten(), layers.Dense(CLASSES)])


def calls(function: Callable[[Any], Any]) -> keras.Model:
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(function(inputs))))


class Own(keras.Model):
    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function, self.flatten, self.dense = function, layers.Flatten(), layers.Dense(CLASSES)

    def call(self, x: Any) -> Any:
        return self.dense(self.flatten(self.function(x)))


def own(function: Callable[[Any], Any]) -> keras.Model:
    model = Own(function)
    model(np.zeros((2, *SHAPE), np.float32))
    return model


def adapted(high: float) -> layers.Normalization:
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).uniform(0, high, (50, *SHAPE)).astype(np.float32))
    return layer


def say(spec: TrainSpec, model: keras.Model, *features: Feature) -> list[str]:
    shapes = {feature.name: (feature.shape, feature.model_dtype) for feature in features}
    return remarks(
        Built(model, spec, False, features, CLASSES, lambda: model_graph(model, shapes, lambda batch: model_inputs(model, batch)))
    )


SCALING: dict[str, Callable[[], keras.Model]] = {
    "Rescaling": lambda: begins(layers.Rescaling(1 / 255)),
    "to -1": lambda: begins(layers.Rescaling(1 / 127.5, offset=-1)),
    "behind others": lambda: begins(
        layers.RandomFlip(), layers.ZeroPadding2D(), layers.Resizing(4, 4), layers.Rescaling(1 / 255)
    ),
    "nested": lambda: begins(keras.Sequential([keras.Sequential([layers.Rescaling(1 / 255)])])),
    "Lambda": lambda: begins(layers.Lambda(lambda x: x / 255)),
    "functional": lambda: calls(lambda x: x / 255.0),
    "ops": lambda: calls(lambda x: keras.ops.true_divide(keras.ops.cast(x, "float32"), 255)),
    "product": lambda: calls(lambda x: keras.ops.multiply(0.00392, x)),
    "standardised": lambda: calls(lambda x: (x - 127.5) / 127.5),
    "subclassed": lambda: own(lambda x: x / 255),
    "Normalization": lambda: begins(layers.Normalization(mean=[120.0, 110.0, 100.0], variance=[3600.0] * 3)),
    "adapted": lambda: begins(adapted(255.0)),
    "application": lambda: calls(keras.applications.resnet50.preprocess_input),
    "torch": lambda: calls(lambda x: keras.applications.imagenet_utils.preprocess_input(x, mode="torch")),
}


@pytest.mark.parametrize("form", SCALING)
def test_a_scaling_of_its_own_is_reported_with_the_remedy(make_spec: MakeSpec, form: str) -> None:
    spec = make_spec(model="nets:build")
    (said,) = say(spec, SCALING[form](), PICTURE)
    assert "begins with a scaling of its own" in said and "image as 0 to 1 already" in said and "-s scale=false" in said
    undivided = Feature(PICTURE.name, PICTURE.dtype, PICTURE.shape, PICTURE.scale, divided=False)
    assert say(make_spec(model="nets:build", scale=False), SCALING[form](), undivided) == []


def test_the_sentence_says_what_comes_out(make_spec: MakeSpec) -> None:
    (said,) = say(make_spec(model="nets:build"), begins(layers.Rescaling(1 / 255, name="shrink")), PICTURE)
    assert said == (
        "The model 'nets:build' begins with a scaling of its own (layer 'shrink'), but gets image as 0 to 1 already: scaled twice it lies "
        "between 0 and 0.003922, and little is learned; use -s scale=false, which hands over the stored 0 to 255, or leave the scaling out."
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: begins(),
        lambda: begins(layers.Conv2D(4, 3), layers.Rescaling(1 / 255)),
        lambda: begins(layers.BatchNormalization()),
        lambda: begins(layers.Rescaling(2.0, offset=-1.0)),
        lambda: begins(adapted(1.0)),
        lambda: begins(layers.Normalization(mean=0.5, variance=0.1)),
        lambda: own(lambda x: x - 0.5),
    ],
)
def test_what_fits_0_to_1_is_not_remarked(make_spec: MakeSpec, make: Callable[[], keras.Model]) -> None:
    assert say(make_spec(model="nets:build"), make(), PICTURE) == []


def test_of_several_features_the_scaled_one_is_named(make_spec: MakeSpec) -> None:
    inputs = {name: keras.Input(SHAPE, name=name) for name in ("b", "a")}
    flat = [layers.Flatten()(inputs["a"]), layers.Flatten()(inputs["b"] / 255)]
    model = keras.Model(list(inputs.values()), layers.Dense(CLASSES)(layers.Concatenate()(flat)))
    features = [Feature("b", "uint8", SHAPE, 255.0), Feature("a", "uint8", SHAPE, 255.0)]
    (said,) = say(make_spec(model="nets:build"), model, *features)
    assert "gets b as 0 to 1" in said
    assert say(make_spec(model="nets:build"), model, Feature("b", "float32", SHAPE), features[1]) == []
