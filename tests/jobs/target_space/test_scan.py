"""The recurrent scan against Keras' SimpleRNN: values and gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from jobs.target_space.scan import SLOPES, scan

BATCH, STEPS, INPUTS, UNITS = 3, 6, 2, 4


@pytest.mark.parametrize("activation", sorted(SLOPES))
def test_states_and_gradients_are_those_of_keras(activation: str) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(BATCH, STEPS, INPUTS)).astype(np.float32), rng.normal(size=(BATCH, STEPS, UNITS))
    layer = keras.layers.SimpleRNN(UNITS, activation=activation, return_sequences=True)
    layer.build((None, STEPS, INPUTS))
    layer.cell.bias.assign(rng.normal(size=UNITS))
    variables = [variable.value for variable in layer.trainable_variables]
    with tf.GradientTape() as tape:
        wanted = layer(x)
        loss = tf.reduce_sum(wanted * weight.astype(np.float32))
    wanted_gradients = tape.gradient(loss, variables)
    with tf.GradientTape() as tape:
        kernel, recurrent, bias = (tf.convert_to_tensor(variable) for variable in variables)
        driven = tf.transpose(tf.matmul(x, kernel) + bias, [1, 0, 2])
        states = tf.transpose(scan(driven, recurrent, activation), [1, 0, 2])
        loss = tf.reduce_sum(states * weight.astype(np.float32))
    np.testing.assert_allclose(states.numpy(), wanted.numpy(), rtol=1e-5, atol=1e-6)
    for got, reference in zip(tape.gradient(loss, variables), wanted_gradients, strict=True):
        np.testing.assert_allclose(got.numpy(), reference.numpy(), rtol=1e-4, atol=1e-5)
