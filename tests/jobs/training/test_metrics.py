"""Metrics of evaluations: those of Keras over all examples at once, however the examples are shared out."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from jobs.training.evaluation import Evaluator
from jobs.training.metrics import ExtraMetrics
from service.specs.train import TrainSpec

MakeSpec = Callable[..., TrainSpec]
NAMES = ("top_2", "macro_f1", "auc")


def of_keras(labels: Any, logits: Any, classes: int) -> dict[str, float]:
    """Over examples that hold each class."""
    answers, wanted = tf.nn.softmax(logits).numpy(), np.eye(classes, dtype=np.float32)[labels]
    metrics = {
        "top_2": keras.metrics.TopKCategoricalAccuracy(2),
        "macro_f1": keras.metrics.F1Score(average="macro"),
        "auc": keras.metrics.AUC(multi_label=True, num_labels=classes),
    }
    for metric in metrics.values():
        metric.update_state(wanted, answers)
    return {name: float(metric.result()) for name, metric in metrics.items()}


def total(extra: ExtraMetrics, labels: Any, logits: Any, weights: Any) -> np.ndarray:
    states = extra.sums(tf.constant(labels, tf.int32), tf.constant(logits, tf.float32), tf.constant(weights, tf.float32))
    return np.asarray(tf.concat(states, axis=0).numpy(), np.float64)


@pytest.mark.parametrize(("seed", "classes", "parts"), [(0, 3, 1), (1, 4, 2), (2, 6, 3)])
def test_sums_over_any_parts_come_to_what_keras_finds_of_all(seed: int, classes: int, parts: int) -> None:
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(0, classes, 40)])
    logits = (random.standard_normal((len(labels), classes)) * 3 + 2 * np.eye(classes)[labels]).astype(np.float32)
    extra = ExtraMetrics(NAMES, classes)
    sums = np.zeros(extra.width)
    for rank in range(parts):
        own, padded = labels[rank::parts], logits[rank::parts].copy()
        # Padding that gives no numbers at all counts nothing.
        own, padded = np.append(own, 0), np.append(padded, np.full((1, classes), np.nan), axis=0)
        sums += total(extra, own, padded, np.append(np.ones(len(own) - 1), 0))
    assert extra.results(sums) == extra.results(total(extra, labels, logits, np.ones(len(labels))))
    wanted = of_keras(labels, logits, classes)
    assert extra.results(sums) == {name: pytest.approx(value, abs=1e-6) for name, value in wanted.items()}


def test_classes_without_examples_do_not_count() -> None:
    labels, random = np.arange(30) % 2, np.random.default_rng(0)
    logits = random.standard_normal((30, 2)) + np.eye(2)[labels]
    # Two more classes that no example is of, and that none is predicted to be.
    more = np.concatenate([logits, np.full((30, 2), -60.0)], axis=1)
    two, four = ExtraMetrics(("macro_f1", "auc"), 2), ExtraMetrics(("macro_f1", "auc"), 4)
    found = four.results(total(four, labels, more, np.ones(30)))
    assert found == pytest.approx(two.results(total(two, labels, logits, np.ones(30))), abs=1e-6)
    nothing = two.results(total(two, np.zeros(3, int), logits[:3], np.ones(3)))
    assert np.isfinite(list(nothing.values())).all()


def test_an_evaluation_reports_them_beside_the_tasks_own(make_spec: MakeSpec, make_replica: Callable[..., Any]) -> None:
    def net() -> keras.Model:
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])

    random = np.random.default_rng(0)
    x, labels = random.standard_normal((150, 4)).astype(np.float32), (np.arange(150) % 3).astype(np.int32)
    found = {}
    for names in ((), NAMES):
        replica = make_replica(make_spec(), net, extra=ExtraMetrics(names, 3))
        found[names] = Evaluator(replica, {"x": x}, labels, np.arange(150), 0, 1).evaluate()
    logits = np.asarray(replica.model(x), np.float32)
    wanted = of_keras(labels, logits, 3)
    assert found[NAMES] == {**found[()], **{name: pytest.approx(wanted[name], abs=1e-6) for name in NAMES}}
    assert list(found[()]) == ["loss", "accuracy"]
