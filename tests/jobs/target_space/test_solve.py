"""The solve against NumPy in float64, and its gradient against finite differences."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.target_space.solve import solve

SHAPES = [(9, 4, 3), (4, 9, 3), (5, 5, 1)]


def problem(rows: int, columns: int, units: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)), rng.normal(size=(rows, units)), rng.normal(size=(columns, units))


def by_numpy(a: np.ndarray, t: np.ndarray, ridge: float) -> np.ndarray:
    """Least squares of the rows with √λ I below them, by NumPy's singular values."""
    below = np.concatenate([a, np.sqrt(ridge) * np.eye(a.shape[1])])
    return np.linalg.lstsq(below, np.concatenate([t, np.zeros((a.shape[1], t.shape[1]))]), rcond=None)[0]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.sampled_from([1e-3, 0.1, 10.0]))
@settings(max_examples=25, deadline=None)
def test_is_the_ridge_regression_of_numpy(rows: int, columns: int, units: int, ridge: float) -> None:
    a, t, _ = problem(rows, columns, units)
    np.testing.assert_allclose(solve(tf.constant(a), tf.constant(t), ridge).numpy(), by_numpy(a, t, ridge), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_problems_that_are_solved_at_once_are_solved_as_apart(shape: tuple[int, int, int]) -> None:
    problems, ridges = [problem(*shape, seed=seed) for seed in range(3)], [0.01, 0.1, 1.0]
    rows, targets, gradients = (tf.constant(np.stack([each[part] for each in problems])) for part in range(3))

    def solved(rows: Any, targets: Any, ridge: Any, gradient: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch([rows, targets])
            weights = solve(rows, targets, ridge)
        return [weights, *tape.gradient(weights, [rows, targets], output_gradients=gradient)]

    at_once = solved(rows, targets, np.array(ridges)[:, None, None], gradients)
    for place, ridge in enumerate(ridges):
        for ours, theirs in zip(at_once, solved(rows[place], targets[place], ridge, gradients[place]), strict=True):
            np.testing.assert_allclose(ours[place], theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_is_that_of_finite_differences(shape: tuple[int, int, int]) -> None:
    a, t, g = problem(*shape)
    ridge, h = 0.05, 1e-6

    def loss(a: np.ndarray, t: np.ndarray) -> float:
        return float((solve(tf.constant(a), tf.constant(t), ridge).numpy() * g).sum())

    rows, targets = tf.constant(a), tf.constant(t)
    with tf.GradientTape() as tape:
        tape.watch([rows, targets])
        weights = solve(rows, targets, ridge)
    by_rows, by_targets = tape.gradient(weights, [rows, targets], output_gradients=tf.constant(g))
    for index in np.ndindex(a.shape):
        e = np.zeros_like(a)
        e[index] = h
        assert by_rows.numpy()[index] == pytest.approx((loss(a + e, t) - loss(a - e, t)) / (2 * h), rel=1e-4, abs=1e-6)
    for index in np.ndindex(t.shape):
        e = np.zeros_like(t)
        e[index] = h
        assert by_targets.numpy()[index] == pytest.approx((loss(a, t + e) - loss(a, t - e)) / (2 * h), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("ridge", [1e-3, 1e-2])
def test_float32_rows_that_are_nearly_dependent_give_finite_weights(ridge: float) -> None:
    # A Gram matrix of ‖A‖² about 10⁶ in float32 has errors of about 0.1: its factor would be NaN.
    rng = np.random.default_rng(0)
    a = (rng.normal(size=(4000, 3)) @ rng.normal(size=(3, 60)) * 5).astype(np.float32)
    t = rng.normal(size=(4000, 2)).astype(np.float32)
    weights = solve(tf.constant(a), tf.constant(t), ridge).numpy()
    assert np.isfinite(weights).all()
    wanted = by_numpy(a.astype(np.float64), t.astype(np.float64), ridge)
    assert np.linalg.norm(weights - wanted) < 0.02 * np.linalg.norm(wanted) + 1e-3
