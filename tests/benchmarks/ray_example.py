"""Ray's documented TensorflowTrainer example ("Get Started with Distributed Training using TensorFlow and Keras").

The same model as the lecture's CNN, and a step of its own in place of `model.fit`, which Keras 3 refuses under
MultiWorkerMirroredStrategy. `startup.py` runs it.
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from ray.train import RunConfig, ScalingConfig
from ray.train.tensorflow import TensorflowTrainer


def train_func(config: dict[str, int]) -> None:
    """What runs in each worker."""
    import keras

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    layers = keras.layers
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                layers.Conv2D(32, 5, padding="same", activation="relu"),
                layers.MaxPooling2D(2),
                layers.Conv2D(64, 5, padding="same", activation="relu"),
                layers.MaxPooling2D(2),
                layers.Flatten(),
                layers.Dense(128, activation="relu"),
                layers.Dropout(0.25),
                layers.Dense(10),
            ]
        )
        optimizer = keras.optimizers.Adam(0.001)
        optimizer.build(model.trainable_variables)

    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        def one(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(images, training=True))
                loss = tf.reduce_sum(losses) / config["batch_size"]
            optimizer.apply(tape.gradient(loss, [v.value for v in model.trainable_variables]), model.trainable_variables)
            return loss

        return strategy.run(one, args=(images, labels))

    share = config["batch_size"] // config["workers"]
    step(tf.zeros((share, 28, 28, 1)), tf.zeros((share,), tf.int32))
    print(f"FIRST_STEP_DONE={time.time()}", flush=True)


if __name__ == "__main__":
    TensorflowTrainer(
        train_func,
        train_loop_config={"batch_size": 128, "workers": 2},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(name="example"),
    ).fit()
