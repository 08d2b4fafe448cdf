"""A model's graph: its layers are in it, and to draw it changes nothing."""

import keras
import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.graph_pb2 import GraphDef

from jobs.artifacts.model_graph import model_graph
from jobs.training.variables import copy_model


def network() -> keras.Model:
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(3, 3, name="first")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Dropout(0.5, name="drop")(keras.layers.Flatten()(x))
    return keras.Model(image, keras.layers.Dense(4, name="last")(x), name="net")


def nodes(graph: bytes) -> list[str]:
    return [node.name for node in GraphDef.FromString(graph).node]


def test_the_layers_and_variables_have_their_names() -> None:
    found = nodes(model_graph(network(), {"image": ((8, 8, 1), "float32")}, lambda batch: batch["image"]))
    for layer in ("first", "norm", "last"):
        assert any(name.startswith(layer) for name in found), found
    assert any("variables/" in name and "first/kernel" in name for name in found), found


def test_nothing_is_drawn_or_changed() -> None:
    keras.utils.set_random_seed(3)
    model = network()
    model(np.zeros((2, 8, 8, 1), np.float32), training=True)
    before = copy_model(model)
    model_graph(model, {"image": ((8, 8, 1), "float32")}, lambda batch: batch["image"])
    after = copy_model(model)
    assert [name for name in before if before[name].tobytes() != after[name].tobytes()] == []
    assert len(model.losses) == 0


def test_within_the_ring_of_several_workers_no_variable_is_read() -> None:
    """A variable that each worker keeps for itself is read by a collective, which one worker alone would wait in for ever."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = network()
    found = GraphDef.FromString(model_graph(model, {"image": ((8, 8, 1), "float32")}, lambda batch: batch["image"]))
    operations = {node.op for node in found.node}
    assert not {name for name in operations if "Collective" in name or "ReadVariable" in name}, operations


def test_several_features_and_a_model_of_the_users_own() -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.embed = keras.layers.Embedding(10, 3, name="embed")
            self.out = keras.layers.Dense(2, name="out")

        def call(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
            return self.out(tf.reduce_mean(self.embed(features["tokens"]), axis=1) * features["weight"])

    model = Own()
    model({"tokens": np.zeros((2, 5), np.int32), "weight": np.ones((2, 1), np.float32)})
    found = nodes(model_graph(model, {"tokens": ((5,), "int32"), "weight": ((1,), "float32")}, lambda batch: batch))
    assert any("embed" in name for name in found)
