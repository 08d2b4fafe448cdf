"""Means over a split, however many rows there are and however many workers share them."""

from math import ceil

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from jobs.training.evaluation import BATCH, BATCHES_A_CALL, Evaluator
from jobs.training.metrics import ExtraMetrics


class Recorder:
    """In the replica's place: the loss of an example is its first feature, its accuracy whether the label is even."""

    metric_names = ("accuracy",)
    extra = ExtraMetrics((), 0)

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.seen: list[int] = []

    def evaluate(self, features: dict[str, NDArray], labels: NDArray, weights: NDArray) -> NDArray[np.float32]:
        assert features["x"].shape[:2] == features["y"].shape[:2] == labels.shape == weights.shape
        self.shapes.append(labels.shape)
        self.seen += [int(row) for row in features["x"][weights > 0][:, 0]]
        values = [(features["x"][..., 0] * weights).sum(), ((labels % 2 == 0) * weights).sum(), weights.sum()]
        return np.array(values, np.float32)


class Together(Recorder):
    """Adds what the other ranks' replicas gave in the same call."""

    def __init__(self, others: list[NDArray[np.float32]]) -> None:
        super().__init__()
        self.others = others

    def evaluate(self, features: dict[str, NDArray], labels: NDArray, weights: NDArray) -> NDArray[np.float32]:
        return super().evaluate(features, labels, weights) + self.others.pop(0)


class Kept(Recorder):
    """Keeps what it gave."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[NDArray[np.float32]] = []

    def evaluate(self, features: dict[str, NDArray], labels: NDArray, weights: NDArray) -> NDArray[np.float32]:
        self.given.append(super().evaluate(features, labels, weights))
        return self.given[-1]


COUNT = 6000
FEATURES = {"x": np.arange(COUNT, dtype=np.float32)[:, None].repeat(2, 1), "y": np.zeros((COUNT, 1), np.uint8)}
LABELS = (np.arange(COUNT) % 7).astype(np.int32)
SIZES = st.one_of(
    st.integers(1, 40),
    st.integers(1, COUNT),
    st.sampled_from([BATCH - 1, BATCH, BATCH + 1, BATCH * BATCHES_A_CALL, BATCH * BATCHES_A_CALL + 1, COUNT]),
)


def evaluate(replica: Recorder, rows: NDArray[np.int64], rank: int, workers: int) -> dict[str, float]:
    # A worker's own sums may be of nothing; the real replica adds the others' to them.
    with np.errstate(invalid="ignore"):
        return Evaluator(replica, FEATURES, LABELS, rows, rank, workers).evaluate()  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(count=SIZES, workers=st.integers(1, 7), seed=st.integers(0, 100))
def test_all_workers_together_give_the_mean_of_every_row_once(count: int, workers: int, seed: int) -> None:
    rows = np.sort(np.random.default_rng(seed).permutation(COUNT)[:count]).astype(np.int64)
    recorders = [Kept() for _ in range(workers)]
    for rank in range(1, workers):
        evaluate(recorders[rank], rows, rank, workers)
    calls = len(recorders[-1].given) if workers > 1 else ceil(ceil(count / BATCH) / BATCHES_A_CALL)
    others = [sum((r.given[call] for r in recorders[1:]), np.zeros(3, np.float32)) for call in range(calls)]
    lead = Together(others)
    means = evaluate(lead, rows, 0, workers)
    assert not others
    # Every worker makes the same calls: each is a collective.
    assert all(recorder.shapes == lead.shapes for recorder in recorders[1:])
    assert all(shape[1] <= BATCH and shape[0] <= BATCHES_A_CALL for shape in lead.shapes)
    assert sorted([*lead.seen, *(row for recorder in recorders[1:] for row in recorder.seen)]) == list(rows)
    assert list(means) == ["loss", "accuracy"]
    np.testing.assert_allclose(means["loss"], rows.mean(), rtol=1e-5)
    np.testing.assert_allclose(means["accuracy"], (LABELS[rows] % 2 == 0).mean(), rtol=1e-6)


@given(count=st.integers(1, 9), workers=st.integers(2, 12))
def test_workers_without_a_row_of_their_own_take_part(count: int, workers: int) -> None:
    for rank in range(workers):
        recorder = Kept()
        evaluate(recorder, np.arange(count), rank, workers)
        assert len(recorder.given) == 1
        assert recorder.given[0][-1] == len(range(rank, count, workers))
