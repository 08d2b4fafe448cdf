"""Layers with a state of their own on two real workers: which are found to differ, and that the remedy is one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.rings import work

from jobs.training.agreement import Agreement
from jobs.training.replica import Replica

PROGRAM = """
import contextlib, pickle, sys
from pathlib import Path
import keras, numpy as np
from jobs.training.agreement import Agreement
from jobs.models.registry import synchronise_batch_normalisation
from jobs.training.optimizers import make_optimizer
from jobs.training.replica import Replica
from jobs.training.ring import form_ring
from jobs.tasks.registry import task_for
from jobs.training.variables import draw_differently
from service.errors import UserFailure
from service.specs.train import TrainSpec

rank, workers, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
strategy = form_ring(workers, 100, lambda message, seconds: contextlib.nullcontext())
rng = np.random.default_rng(0)
x = rng.standard_normal((6, 8, 5)).astype(np.float32)
y = rng.integers(0, 3, (6, 8)).astype(np.int32)
share = slice(rank * 8 // workers, (rank + 1) * 8 // workers)

class RunningMean(keras.layers.Layer):
    def __init__(self, **how):
        super().__init__(name="centre")
        self.how = how
    def build(self, shape):
        self.mean = self.add_weight(shape=shape[1:], initializer="zeros", name="mean", **self.how)
        self.calls = self.add_weight(shape=(), initializer="zeros", dtype="int32", trainable=False, name="calls")
    def call(self, x, training=False):
        if training:
            self.calls.assign(self.calls + 1)
            self.mean.assign(0.9 * self.mean + 0.1 * keras.ops.mean(x, axis=0))
        return x - keras.ops.stop_gradient(self.mean)

def train(*more):
    spec = TrainSpec(model="dense", dataset="digits", epochs=1, batch=8, workers=workers, optimizer={"name": "sgd", "learning_rate": 0.1})
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([keras.Input((5,)), *more, keras.layers.Dense(3)])
        synchronise_batch_normalisation(model)
        optimizer = make_optimizer(spec, 6)
        optimizer.build(model.trainable_variables)
    draw_differently(model, rank)
    replica = Replica(spec, strategy, model, optimizer, task_for(spec), {"x": 1.0}, lambda features: features["x"])
    agreement = Agreement(replica, rank, workers)
    agreement.check(0)
    sums = replica.train({"x": x[:, share]}, y[:, share], np.zeros(0, np.float32)).sums
    try:
        agreement.check(6)
        error = None
    except UserFailure as failure:
        error = str(failure)
    state = {v.name: keras.ops.convert_to_numpy(v) for v in model.layers[0].variables}
    return {"sums": sums, "error": error, **state}

out = {
    "own": train(RunningMean(trainable=False)),
    "averaged": train(RunningMean(trainable=False, aggregation="mean")),
    "of keras": train(keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)),
}
(folder / f"out-{workers}-{rank}").write_bytes(pickle.dumps(out))
"""


@pytest.mark.slow
def test_a_layers_own_state_is_found_to_differ_and_its_mean_over_the_workers_is_that_of_one(tmp_path: Path) -> None:
    lead, other = work(tmp_path, 2, PROGRAM)
    for rank in (lead, other):
        assert rank["averaged"]["error"] is None
        assert rank["of keras"]["error"] is None
        assert "The layer 'centre' holds another 'mean' on each of the 2 workers (at step 6" in rank["own"]["error"]
        assert 'add_weight(…, trainable=False, aggregation="mean")' in rank["own"]["error"]
    assert lead["own"]["error"] == other["own"]["error"]
    assert np.abs(lead["own"]["mean"] - other["own"]["mean"]).max() > 0.01
    assert lead["averaged"]["mean"].tobytes() == other["averaged"]["mean"].tobytes()
    assert lead["averaged"]["calls"] == 6
    rng = np.random.default_rng(0)
    mean = np.zeros(5)
    for batch in rng.standard_normal((6, 8, 5)):
        mean = 0.9 * mean + 0.1 * batch.mean(0)
    np.testing.assert_allclose(lead["averaged"]["mean"], mean, rtol=1e-4, atol=1e-6)


class Ranks:
    """In the replica's place: three workers' models, of which this is the one of `rank`; `told` is what the others give."""

    def __init__(self, numbers: list[list[int]]) -> None:
        self.numbers = numbers

    def sum_over_workers(self, values: Any) -> Any:
        # `alike` gives one, the halves, and their squares: the others' are made as it makes its own.
        total = np.zeros_like(values)
        for numbers in self.numbers:
            halves = np.array([(n >> 16, n & 0xFFFF) for n in numbers], np.float64).reshape(-1)
            total += np.concatenate([[1.0], halves, halves**2])
        return total


@pytest.mark.parametrize(
    ("numbers", "alike"),
    [
        ([[1, 7], [1, 8], [1, 7]], [True, False]),
        # Two is the mean: its worker must see a difference too.
        ([[1], [2], [3]], [False]),
        ([[2**32 - 1], [2**32 - 1], [2**32 - 1]], [True]),
        ([[2**32 - 1], [2**32 - 2], [2**32 - 1]], [False]),
        ([[0x10000], [0x00001], [0x10000]], [False]),
        ([[], [], []], []),
    ],
)
def test_all_workers_find_the_same_numbers_to_differ(numbers: list[list[int]], alike: list[bool]) -> None:
    for own in numbers:
        assert Replica.alike(Ranks(numbers), own) == alike  # type: ignore[arg-type]


def test_one_worker_agrees_with_itself_and_looks_at_nothing() -> None:
    Agreement(None, 0, 1).check(5)  # type: ignore[arg-type]
