"""The first experiment of Fairbank et al., JMLR 23(8), 2022: two spirals, in target space and in weight space."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from jobs.training.replica import Replica
from service.specs.train import TrainSpec


def two_spirals(points: int = 97) -> tuple[np.ndarray, np.ndarray]:
    """Lang and Witbrock 1988: `points` of each class, [2 points, 2] in −1 to 1, and their classes."""
    turn = np.arange(points) * np.pi / 16
    radius = (104 - np.arange(points)) / 104
    one = np.stack([radius * np.sin(turn), radius * np.cos(turn)], axis=1)
    return np.concatenate([one, -one]).astype(np.float32), np.repeat([0, 1], points).astype(np.int32)


def network() -> keras.Model:
    hidden = [layers.Dense(12, "tanh") for _ in range(4)]
    return keras.Sequential([keras.Input((2,)), *hidden, layers.Dense(2)])


def steps_to_solve(replica: Replica, most: int, together: int = 100) -> int | None:
    """Steps of the whole data until every point is right."""
    points, classes = two_spirals()
    x = {"x": np.broadcast_to(points, (together, *points.shape)).copy()}
    y = np.broadcast_to(classes, (together, len(classes))).copy()
    for step in range(0, most, together):
        right = replica.train(x, y, np.zeros(0, np.float32)).sums[:, 1]
        if (solved := np.flatnonzero(right == len(classes))).size:
            return step + int(solved[0])
    return None


def test_target_space_solves_the_two_spirals_sooner_than_weight_space(
    make_spec: Callable[..., TrainSpec], make_replica: Callable[..., Any]
) -> None:
    points, classes = two_spirals()
    keys: dict[str, Any] = {"batch": len(classes), "optimizer": {"name": "adam", "learning_rate": 0.01}}
    target = make_spec(space={"name": "target", "ridge": 0.001, "realisation": len(points)}, **keys)
    solved = steps_to_solve(make_replica(target, network, realisation=points), 2000)
    assert solved is not None
    assert steps_to_solve(make_replica(make_spec(**keys), network), 4 * solved) is None
