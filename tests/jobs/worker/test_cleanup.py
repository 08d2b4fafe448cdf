"""A process that trains run after run keeps nothing of those that are over."""

import gc
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph

from jobs.worker.cleanup import release_graphs


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
    assert graphs()["steps_of_this_test"] > 0, "TensorFlow frees them by itself now: jobs.worker.cleanup has nothing to do"
    release_graphs()
    gc.unfreeze()
    assert not graphs() - before


def test_a_run_after_that_has_its_gradients() -> None:
    train()
    release_graphs()
    train()


def test_what_autograph_wrote_is_deleted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    @tf.function
    def a_loop(count):
        for step in tf.range(count):
            tf.print(step)

    a_loop(tf.constant(2))
    assert list(tmp_path.iterdir()), "AutoGraph leaves nothing by itself now: delete_generated_sources has nothing to do"
    release_graphs()
    assert not list(tmp_path.iterdir())
    a_loop(tf.constant([2])[0])
