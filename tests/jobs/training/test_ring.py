"""Two real workers on this machine, without Ray: they train as one, draw differently and resume bit for bit."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.rings import ROOT, work

from service.records.run_record import RunRecord
from service.settings import Settings
from service.storage import open_store

WORKER = """
import contextlib, pickle, sys
from pathlib import Path
import keras, numpy as np, tensorflow as tf
from jobs.models.registry import synchronise_batch_normalisation
from jobs.training.optimizers import make_optimizer
from jobs.training.replica import Replica
from jobs.training.ring import form_ring
from jobs.target_space.target import TargetSpace
from jobs.tasks.registry import task_for
from jobs.training.variables import assign_variables, copy_model, copy_variables, draw_differently
from service.specs.parts import SpaceSpec
from service.specs.train import TrainSpec

target = SpaceSpec(name="target")
rank, workers, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
strategy = form_ring(workers, 100, lambda message, seconds: contextlib.nullcontext())
spec = TrainSpec(model="dense", dataset="digits", epochs=1, batch=8, workers=workers,
                 optimizer={"name": "adam", "learning_rate": 0.05, "global_clipnorm": 0.5})

class Noise(keras.layers.Layer):
    def call(self, x, training=False):
        return x + keras.random.normal(tf.shape(x)) if training else x

def make_targets():
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([keras.Input((5, 1)), keras.layers.SimpleRNN(6), keras.layers.Dense(3)])
        space = TargetSpace(model, tf.constant(np.random.default_rng(1).random((4, 5, 1), np.float32)), target, seed=2)
        optimizer = make_optimizer(spec, 10)
        optimizer.build(space.variables)
    replica = Replica(spec, strategy, model, optimizer, task_for(spec), {"x": 1.0}, lambda f: f["x"][..., None], space)
    space.begin()
    return replica

def make(random):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        extra = [Noise(), keras.layers.Dropout(0.5)] if random else []
        regularizer = keras.regularizers.L2(0.1)
        model = keras.Sequential([keras.Input((5,)), *extra, keras.layers.Dense(6, "tanh", kernel_regularizer=regularizer),
                                  keras.layers.BatchNormalization(), keras.layers.Dense(3)])
        synchronise_batch_normalisation(model)
        optimizer = make_optimizer(spec, 10)
        optimizer.build(model.trainable_variables)
    return Replica(spec, strategy, model, optimizer, task_for(spec), {"x": 1.0}, lambda features: features["x"])

rng = np.random.default_rng(0)
local = 8 // workers
x = rng.random((4, 8, 5), np.float32)[:, rank * local : (rank + 1) * local]
y = rng.integers(0, 3, (4, 8)).astype(np.int32)[:, rank * local : (rank + 1) * local]
flags = np.array([rank + 1, 0], np.float32)

def copies(replica):
    return copy_model(replica.model), copy_variables(replica.optimizer.variables)

exact = make(False)
draw_differently(exact.model, rank)
trained = exact.train({"x": x}, y, flags)
out = {"sums": trained.sums, "flags": trained.flags, "model": copies(exact)[0]}
out["evaluated"] = exact.evaluate({"x": x}, y, np.ones(y.shape, np.float32))
out["sum"] = exact.sum_over_workers(np.array([1.0, rank], np.float32))

targets = make_targets()
out["targets sums"] = targets.train({"x": x[:1]}, y[:1], flags).sums
out["targets"] = {**copy_variables(targets.space.kept), **copy_variables(targets.realised_model().variables)}

whole = make(True)
draw_differently(whole.model, rank)
whole.train({"x": x[:2]}, y[:2], flags)
middle = copies(whole)
if rank == 0:
    (folder / "middle").write_bytes(pickle.dumps(middle))
out["middle"] = {name: array for name, array in middle[0].items() if "seed" in name}
whole.sum_over_workers(flags)
whole.train({"x": x[2:]}, y[2:], flags)
out["whole"] = copies(whole)[0]

model, optimizer = pickle.loads((folder / "middle").read_bytes())
resumed = make(True)
assign_variables(resumed.model.variables, model)
assign_variables(resumed.optimizer.variables, optimizer)
draw_differently(resumed.model, rank)
resumed.train({"x": x[2:]}, y[2:], flags)
out["resumed"] = copies(resumed)[0]
(folder / f"out-{workers}-{rank}").write_bytes(pickle.dumps(out))
"""


@pytest.mark.slow
def test_two_workers_train_as_one_draw_differently_and_resume_bit_for_bit(tmp_path: Path) -> None:
    (alone,) = work(tmp_path, 1, WORKER)
    lead, other = work(tmp_path, 2, WORKER)

    np.testing.assert_allclose(lead["sums"], alone["sums"], rtol=1e-4)
    np.testing.assert_allclose(lead["evaluated"], alone["evaluated"], rtol=1e-4)
    np.testing.assert_allclose(lead["targets sums"], alone["targets sums"], rtol=1e-4)
    assert all(array.tobytes() == other["targets"][name].tobytes() for name, array in lead["targets"].items())
    for name, array in alone["targets"].items():
        np.testing.assert_allclose(lead["targets"][name], array, rtol=1e-3, atol=1e-5, err_msg=name)
    for name, array in alone["model"].items():
        np.testing.assert_allclose(lead["model"][name], array, rtol=1e-3, atol=1e-5, err_msg=name)
    assert list(lead["flags"]) == list(other["flags"]) == [3, 0]
    assert list(lead["sum"]) == list(other["sum"]) == [2, 1]
    for key in ("sums", "evaluated"):
        assert lead[key].tobytes() == other[key].tobytes()

    weights = [name for name in lead["whole"] if "seed" not in name]
    assert weights
    assert all(lead["whole"][name].tobytes() == other["whole"][name].tobytes() for name in weights)
    assert len(lead["middle"]) == 2
    for name, (seed, counter) in lead["middle"].items():
        assert (other["middle"][name][0] != seed, other["middle"][name][1] == counter == 2) == (True, True)
    for rank in (alone, lead, other):
        # Keras numbers the layers of each model anew: the order counts.
        again, whole = rank["resumed"].values(), rank["whole"].values()
        assert [array.tobytes() for array in again] == [array.tobytes() for array in whole]


@pytest.mark.slow
def test_a_ring_that_does_not_form_in_time_is_given_up(tmp_path: Path) -> None:
    """The second worker never starts: TensorFlow waits for ever, holds Python's lock and swallows SIGTERM."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in (first, second)]
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 0}}
    code = f"""
import os
from jobs.training.ring import form_ring
from jobs.worker.process import watched

order = {{"run_id": "late", "nonce": "", "attempt": 1, "rank": 0, "log": {str(tmp_path / "log")!r}, "pid": os.getpid()}}
form_ring(2, 3.0, lambda message, seconds: watched({{**order, "message": message, "seconds": seconds}}))
"""
    (tmp_path / "log").write_text("what the worker said\n")
    environment = {**os.environ, "TF_CONFIG": json.dumps(config), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["DELAYLINE_STORE"] = str(tmp_path / "store")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    record = RunRecord(open_store(Settings.load(store=str(tmp_path / "store"))), "late")
    failure = json.loads(record.store.read(record.paths.failure(record.label(1), 0)))
    assert failure["kind"] == "infrastructure"
    assert "The ring of 2 workers did not form within 3 s" in failure["message"]
    assert addresses[1] in failure["message"]
    assert record.store.read(record.paths.log(record.label(1), 0)) == b"what the worker said\n"
