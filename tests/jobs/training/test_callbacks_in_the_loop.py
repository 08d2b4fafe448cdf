"""Which calls a run's callbacks get, restored runs included."""

import collections
from pathlib import Path
from typing import Any

import keras
import numpy as np
from support.training_loops import (
    LENGTH,
    METRICS,
    WIDTH,
    KeepingRecorder,
    MakeReplica,
    MakeSpec,
    plain,
    result,
    run,
)

from jobs.artifacts.checkpoints import CheckpointStore
from service.records.run_record import RunRecord
from service.storage.local import LocalStore


class Recorder(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(("begin", epoch))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(("end", epoch, sorted(logs)))


class BatchRecorder(Recorder):
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.calls.append(("batch", batch))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.calls.append(("done", batch, sorted(logs)))


def test_callbacks_are_called_once_an_epoch_also_when_the_run_was_restored_in_the_middle(
    make_spec: MakeSpec, make_replica: MakeReplica
) -> None:
    spec = make_spec(**LENGTH, checkpoint={"every_steps": 7})
    replica, kept, recorder = make_replica(spec, plain), KeepingRecorder(), Recorder()
    run(spec, replica, kept, more=(recorder,))
    whole = [("begin", 0), ("end", 0, METRICS), ("begin", 1), ("end", 1, METRICS), ("begin", 2), ("end", 2, METRICS)]
    assert recorder.calls == whole
    recorder = Recorder()
    kept.snapshots[0].position["callbacks"] = []
    run(spec, replica, KeepingRecorder(), kept.snapshots[0], more=(recorder,))
    assert recorder.calls == whole[3:]


class Chooser(keras.callbacks.Callback):
    """Changes the learning rate by what it remembers, in forms that JSON does not have, and draws."""

    def __init__(self) -> None:
        super().__init__()
        self._recent: collections.deque[Any] = collections.deque(maxlen=2)
        self.rng, self.by_epoch, self.weights = np.random.default_rng(1), {}, np.zeros(WIDTH, np.float32)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._recent.append(np.float32(logs["loss"]))
        self.by_epoch[epoch] = self.model.get_weights()[0][:, 0]
        self.weights += self.by_epoch[epoch] * self.rng.normal()
        earlier = self.by_epoch[max(0, epoch - 1)]
        change = float(abs(self.weights @ earlier) + sum(self._recent))
        self.model.optimizer.learning_rate.assign(0.01 / (1 + change))


def test_a_run_whose_callback_remembers_more_than_json_holds_is_restored_bit_for_bit(
    make_spec: MakeSpec, make_replica: MakeReplica, tmp_path: Path
) -> None:
    spec = make_spec(**LENGTH, checkpoint={"every_steps": 3, "keep_last": 100})
    kept, replica = KeepingRecorder(), make_replica(spec, plain)
    _, whole = run(spec, replica, kept, more=(Chooser(),))
    wanted = result(whole)
    checkpoints = CheckpointStore(RunRecord(LocalStore(tmp_path / "store"), "a-run"), spec.checkpoint, "0001")
    for snapshot in kept.snapshots[:-1]:
        checkpoints.save(snapshot)
        _, loop = run(spec, replica, KeepingRecorder(), checkpoints.load(snapshot.step), more=(Chooser(),))
        assert result(loop) == wanted, f"restored at step {snapshot.step}"
    assert "callback state" not in kept.events


def test_callbacks_with_batch_methods_are_called_at_each_batch(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    spec = make_spec(steps=7)
    recorder = BatchRecorder()
    run(spec, make_replica(spec, plain), KeepingRecorder(), more=(recorder,))
    assert [call[1] for call in recorder.calls if call[0] == "batch"] == [0, 1, 2, 3, 4, 0, 1]
    assert [call[1:] for call in recorder.calls if call[0] == "done"] == [
        (batch, ["accuracy", "loss"]) for batch in (0, 1, 2, 3, 4, 0, 1)
    ]
