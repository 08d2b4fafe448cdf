"""A process that trains run after run keeps nothing of those that are over."""

import gc
from collections import Counter
from collections.abc import Iterator

import keras
import pytest
import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph

from jobs.released import release_graphs


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def graphs() -> Counter[str]:
    return Counter(graph.name.rstrip("0123456789_") for graph in gc.get_objects() if isinstance(graph, FuncGraph))


def train() -> None:
    """Steps in a loop of the graph, as a run does them."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build(model.trainable_variables)

    @tf.custom_gradient
    def doubled(x):
        return 2.0 * x, lambda upstream: 2.0 * upstream

    @tf.function
    def steps_of_this_test(count):
        for _ in tf.range(count):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(doubled(model(tf.ones((3, 4)))) ** 2)
            variables = [variable.value for variable in model.trainable_variables]
            optimizer.apply(tape.gradient(loss, variables), model.trainable_variables)

    steps_of_this_test(tf.constant(2))


def test_no_graph_is_left() -> None:
    release_graphs()
    gc.unfreeze()
    before = graphs()
    for _ in range(2):
        train()
    gc.collect()
    assert graphs()["steps_of_this_test"] > 0, "TensorFlow frees them by itself now: jobs.released has nothing to do"
    release_graphs()
    gc.unfreeze()
    assert not graphs() - before


def test_a_run_after_that_has_its_gradients() -> None:
    train()
    release_graphs()
    train()
