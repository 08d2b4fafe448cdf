"""A recurrent layer of each member over all time steps, whose kernels' gradient is one product of all steps.

Unlike the gradient that TensorFlow derives it does not add up a kernel's gradient step by step, which for stacked kernels
is most of what a step reads and writes.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Cell = Callable[[Any, Any, list[Any]], list[Any]]
"""`cell(driven, product, states)`: the next states of a step, elementwise; the first of them is what the layer answers."""


def scan(cell: Cell, driven: Any, kernel: Any, count: int) -> Any:
    """The first state of each step, [steps, members, batch, units], from `count` states of zeros.

    `driven` [steps, members, batch, width] is what the inputs give to a step; `kernel` [members, units, gates × units] multiplies
    the first state before it.
    """

    @tf.custom_gradient
    def differentiable(driven: Any, kernel: Any) -> tuple[Any, Any]:
        states = _forward(cell, driven, kernel, count)

        def gradients(by_answers: Any) -> tuple[Any, Any]:
            before = [tf.concat([tf.zeros_like(state[:1]), state[:-1]], 0) for state in states]
            products = tf.matmul(before[0], kernel)
            by_driven, by_products = _backward(cell, by_answers, driven, products, before, kernel)
            return by_driven, _by_kernel(before[0], by_products)

        return states[0], gradients

    return differentiable(driven, kernel)


def _forward(cell: Cell, driven: Any, kernel: Any, count: int) -> list[Any]:
    """All states of all steps, each [steps, members, batch, units]."""
    steps, units = driven.shape[0], kernel.shape[1]
    first = tf.zeros([*driven.shape[1:3], units])

    def body(t: Any, states: list[Any], rows: list[Any]) -> tuple[Any, list[Any], list[Any]]:
        states = cell(driven[t], tf.matmul(states[0], kernel), states)
        return t + 1, states, [row.write(t, state) for row, state in zip(rows, states, strict=True)]

    start = (tf.constant(0), [first] * count, [_rows(steps, first) for _ in range(count)])
    rows = tf.while_loop(lambda t, *_: t < steps, body, start, maximum_iterations=steps)[2]
    return [row.stack() for row in rows]


def _backward(cell: Cell, by_answers: Any, driven: Any, products: Any, before: list[Any], kernel: Any) -> tuple[Any, Any]:
    """The loss's gradients by `driven` and by the products, from the last step to the first."""
    steps = driven.shape[0]

    def body(t: Any, by_states: list[Any], rows: list[Any]) -> tuple[Any, list[Any], list[Any]]:
        given = (driven[t], products[t], [state[t] for state in before])
        with tf.GradientTape() as tape:
            tape.watch(given)
            after = cell(*given)
        by_after = [by_states[0] + by_answers[t], *by_states[1:]]
        by_driven, by_product, by_before = tape.gradient(
            after, given, output_gradients=by_after, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        by_before = [by_before[0] + tf.matmul(by_product, kernel, transpose_b=True), *by_before[1:]]
        return t - 1, by_before, [rows[0].write(t, by_driven), rows[1].write(t, by_product)]

    start = (
        tf.constant(steps - 1),
        [tf.zeros_like(state[0]) for state in before],
        [_rows(steps, driven[0]), _rows(steps, products[0])],
    )
    rows = tf.while_loop(lambda t, *_: t >= 0, body, start, maximum_iterations=steps)[2]
    return rows[0].stack(), rows[1].stack()


def _by_kernel(answers: Any, by_products: Any) -> Any:
    """[members, units, width]: the sum over steps and batch of one product for each member."""
    members = answers.shape[1]
    rows, columns = (tf.reshape(tf.transpose(x, (1, 0, 2, 3)), [members, -1, x.shape[3]]) for x in (answers, by_products))
    return tf.matmul(rows, columns, transpose_a=True)


def _rows(steps: int, like: Any) -> Any:
    return tf.TensorArray(tf.float32, size=steps, element_shape=like.shape)
