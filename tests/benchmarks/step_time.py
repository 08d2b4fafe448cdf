"""Step time of the training loop against a bare `tf.function` loop of the same network and batch, one worker.

usage: uv run python tests/benchmarks/step_time.py [--batch 128] [--rounds 7] [--threads 2]
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from common import heading, median_ratio

from jobs.models.registry import build_model, model_inputs
from jobs.tasks.registry import task_for
from jobs.training.batches import BatchFeeder, BatchPlan
from jobs.training.optimizers import make_optimizer
from jobs.training.replica import Replica
from jobs.training.ring import limit_threads
from service.specs.train import TrainSpec

STEPS = 40


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    limit_threads(options.threads)
    heading(f"seconds for {STEPS} steps of the lecture's MNIST CNN, batch {options.batch}, {options.threads} threads")
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (60_000, 28, 28, 1), dtype=np.uint8)
    labels = generator.integers(0, 10, 60_000).astype(np.int32)
    ours, bare = our_loop(options.batch, images, labels), bare_loop(options.batch, images, labels)
    ours()
    bare()
    median_ratio(ours, bare, options.rounds, "s", ("delayline", "bare loop"))


def spec(batch: int) -> TrainSpec:
    return TrainSpec.model_validate(
        {"model": "cnn", "dataset": "mnist", "steps": 1000, "batch": batch, "optimizer": {"name": "adam"}}
    )


def our_loop(batch: int, images: np.ndarray, labels: np.ndarray):
    """Feeder and replica as the training loop uses them, in chunks of 20 steps."""
    keras.utils.set_random_seed(0)
    settings = spec(batch)
    model = build_model(settings, (28, 28, 1), 10, None)
    optimizer = make_optimizer(settings, 1000)
    optimizer.build(model.trainable_variables)
    strategy = tf.distribute.get_strategy()
    replica = Replica(
        settings, strategy, model, optimizer, task_for(settings), {"image": 255.0}, lambda f: model_inputs(model, f)
    )
    feeder = BatchFeeder(BatchPlan(np.arange(len(labels)), batch, 0), {"image": images}, labels, None)
    flags = np.zeros(2, np.float32)

    def run() -> float:
        began = time.perf_counter()
        for step in range(0, STEPS, 20):
            chunk = feeder.take(step, 20)
            feeder.prepare(step + 20, 20)
            replica.train(chunk.features, chunk.labels, flags)
        return time.perf_counter() - began

    return run


def bare_loop(batch: int, images: np.ndarray, labels: np.ndarray):
    """What one would write by hand: all steps in one call, batches gathered in the graph, no metrics."""
    keras.utils.set_random_seed(0)
    settings = spec(batch)
    model = build_model(settings, (28, 28, 1), 10, None)
    optimizer = keras.optimizers.Adam(0.001)
    optimizer.build(model.trainable_variables)
    data, truth = tf.constant(images), tf.constant(labels)

    @tf.function
    def steps(order: tf.Tensor) -> tf.Tensor:
        loss = tf.zeros(())
        for step in tf.range(tf.shape(order)[0]):
            x = tf.cast(tf.gather(data, order[step]), tf.float32) / 255.0
            y = tf.gather(truth, order[step])
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, training=True)))
            optimizer.apply(tape.gradient(loss, [v.value for v in model.trainable_variables]), model.trainable_variables)
        return loss

    order = tf.constant(np.random.default_rng(1).permutation(len(labels))[: STEPS * batch].reshape(STEPS, batch))

    def run() -> float:
        began = time.perf_counter()
        steps(order).numpy()
        return time.perf_counter() - began

    return run


if __name__ == "__main__":
    main()
