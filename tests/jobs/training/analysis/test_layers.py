"""The table of layers against Keras' own counts and shapes."""

import re
from typing import Any

import keras
import pytest
from keras import layers

from jobs.models.registry import registered_models
from jobs.training.analysis.layers import layer_rows
from service.specs.train import TrainSpec

SPATIAL = (29, 18, 3)
CASES: list[tuple[tuple[int, ...], Any]] = [
    *[
        (SPATIAL, layers.Conv2D(7, kernel, strides=strides, padding=padding, use_bias=bias))
        for kernel in (1, 3, (5, 2))
        for strides in (1, 2, (2, 3))
        for padding in ("same", "valid")
        for bias in (True, False)
    ],
    *[(SPATIAL, layers.Conv2D(6, 3, dilation_rate=2, padding=padding)) for padding in ("same", "valid")],
    (SPATIAL, layers.Conv2D(6, 3, groups=3)),
    (SPATIAL, layers.Conv2DTranspose(5, 3, strides=2)),
    (SPATIAL, layers.DepthwiseConv2D(3, depth_multiplier=2)),
    (SPATIAL, layers.SeparableConv2D(8, 3)),
    *[
        (SPATIAL, kind(size, strides=strides, padding=padding))
        for kind in (layers.MaxPooling2D, layers.AveragePooling2D)
        for size, strides in ((2, None), (3, 2), ((2, 3), 1))
        for padding in ("same", "valid")
    ],
    (SPATIAL, layers.GlobalAveragePooling2D()),
    (SPATIAL, layers.Flatten()),
    (SPATIAL, layers.BatchNormalization()),
    (SPATIAL, layers.BatchNormalization(scale=False)),
    (SPATIAL, layers.LayerNormalization()),
    (SPATIAL, layers.Dropout(0.25)),
    (SPATIAL, layers.Dense(4)),
    ((40, 6), layers.Conv1D(5, 3, padding="causal")),
    ((40, 6), layers.LSTM(11)),
    ((40, 6), layers.LSTM(11, use_bias=False, return_sequences=True)),
    ((40, 6), layers.GRU(11)),
    ((40, 6), layers.GRU(11, reset_after=False)),
    ((40, 6), layers.SimpleRNN(11)),
    ((40,), layers.Embedding(100, 8)),
    ((40, 6), layers.MultiHeadAttention(2, 4)),
]


def row_of(shape: tuple[int, ...], layer: Any) -> dict[str, Any]:
    image = keras.Input(shape)
    gave = layer(image, image) if isinstance(layer, layers.MultiHeadAttention) else layer(image)
    return layer_rows(keras.Model(image, gave))[-1]


def test_the_lectures_question() -> None:
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(32, 5, padding="same"), layers.MaxPooling2D(2)])
    first, second = layer_rows(model)
    assert first["how"] == "28×28×1, 32 filters 5×5, same padding → 28×28×32"
    assert first["formula"] == "(5·5·1 + 1)·32 = 832"
    assert second["how"] == "28×28×32, pooling 2×2, valid padding, stride 2×2: ⌊(28 − 2)/2⌋ + 1 = 14 → 14×14×32"
    assert (second["parameters"], second["formula"]) == (0, "")


@pytest.mark.parametrize(("shape", "layer"), CASES, ids=lambda value: type(value).__name__)
def test_shapes_and_formulas_are_keras_own(shape: tuple[int, ...], layer: Any) -> None:
    row = row_of(shape, layer)
    output = "×".join("?" if length is None else str(length) for length in layer.output.shape[1:])
    assert row["output"] == output
    assert row["how"].endswith((f"→ {output}", f"= {output}", f"{output} as before", ""))
    assert row["parameters"] == layer.count_params()
    if row["formula"]:
        left, right = row["formula"].replace(",", "").split(" = ")
        assert eval(left.replace("·", "*")) == int(right) == layer.count_params()
    for sum_, value in re.findall(r"([⌊⌈(]?[^:,]*?) = (\d+)(?=[,→ ])", row["how"].partition(": ")[2]):
        text = sum_.strip().replace("−", "-").replace("·", "*")
        text = re.sub(r"⌊(.*?)/(\d+)⌋", r"((\1)//\2)", re.sub(r"⌈(.*?)/(\d+)⌉", r"(-(-(\1)//\2))", text))
        assert eval(text) == int(value), row["how"]


@pytest.mark.parametrize("kind", ["Conv2D", "Dense", "BatchNormalization", "LSTM", "GRU", "Embedding", "DepthwiseConv2D"])
def test_common_layers_have_a_formula(kind: str) -> None:
    for shape, layer in CASES:
        if type(layer).__name__ == kind:
            assert row_of(shape, layer)["formula"], kind


@pytest.mark.parametrize("name", registered_models())
def test_every_registered_model_is_explained(name: str) -> None:
    from jobs.models.registry import build_model

    model = build_model(TrainSpec(model=name, dataset="digits", epochs=1), (8, 8, 1), 10, None)
    rows = layer_rows(model)
    assert sum(row["parameters"] for row in rows) == model.count_params()
    assert all(row["formula"] for row in rows if row["parameters"])
    assert all(row["how"] for row in rows)


def test_models_within_models_and_layers_without_a_shape() -> None:
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="within")], name="inner")

    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner
            self.last = layers.Dense(2, name="last")

        def call(self, x: Any) -> Any:
            return self.last(self.inner(x))

    model = Own()
    model(keras.ops.zeros((1, 4)))
    rows = layer_rows(model)
    assert [(row["name"], row["depth"]) for row in rows] == [("inner", 0), ("within", 1), ("last", 0)]
    assert rows[-1]["parameters"] == 8


def test_a_users_own_class_is_not_reported_as_keras() -> None:
    class Dense(layers.Dense):
        def build(self, shape: Any) -> None:
            super().build(shape)
            self.more = self.add_weight(shape=(5,))

    row = row_of((4,), Dense(3))
    assert (row["formula"], row["parameters"]) == ("", 20)
