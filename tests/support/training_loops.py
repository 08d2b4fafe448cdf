"""A training loop on random data in this process, and a recorder that keeps all it is given."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from jobs.artifacts.checkpoints import Snapshot
from jobs.training.batches import BatchFeeder, BatchPlan, split_validation
from jobs.training.callback_state import CallbackStates
from jobs.training.callbacks import make_callbacks, observes_batches
from jobs.training.evaluation import Evaluator
from jobs.training.intervals import Intervals
from jobs.training.outer_loop import OuterLoop
from jobs.training.recorder import NullRecorder
from jobs.training.replica import Replica
from jobs.training.restore import restore
from jobs.training.state import LoopState
from jobs.training.steps_per_execution import StepsPerExecution
from jobs.training.training_loop import TrainingLoop
from service.specs.train import TrainSpec

MakeSpec = Callable[..., TrainSpec]
MakeReplica = Callable[..., Replica]


COUNT, WIDTH, CLASSES = 48, 5, 3


# 43 examples to train on, 8 a step: five steps an epoch.
LENGTH = {"steps": 13, "log_every": 4}
CLOCK = ("time", "examples_per_second")
METRICS = ["accuracy", "loss", "val_accuracy", "val_loss"]
"""Names of the metrics in a row that has an evaluation."""


class Noise(layers.Layer):
    """A user's layer that draws without a seed."""

    def call(self, x: Any, training: bool = False) -> Any:
        return x + keras.random.normal((8, 6), stddev=0.1) if training else x


def busy() -> keras.Model:
    hidden = [layers.Dense(6, "tanh"), layers.BatchNormalization(), Noise(), layers.Dropout(0.3)]
    return keras.Sequential([keras.Input((WIDTH,)), *hidden, layers.Dense(CLASSES)])


def plain() -> keras.Model:
    return keras.Sequential([keras.Input((WIDTH,)), layers.Dense(CLASSES)])


class KeepingRecorder(NullRecorder):
    """Keeps all it is given; asks the loop to stop once `stop_at` steps are done."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.updates: list[dict[str, Any]] = []
        self.events: list[str] = []
        self.snapshots: list[Snapshot] = []
        self.stop_at = stop_at

    def row(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def update(self, **values: Any) -> None:
        self.updates.append(values)

    def event(self, event: str, message: str, **details: Any) -> None:
        self.events.append(event)

    def save(self, take: Callable[[], Snapshot]) -> None:
        self.snapshots.append(take())

    def stop_requested(self) -> bool:
        # Asked before a call: what is reported so far are the steps done.
        return self.stop_at is not None and (self.updates[-1]["step"] if self.updates else 0) >= self.stop_at - 1


class FixedStepsPerExecution(StepsPerExecution):
    """Always the same number of steps."""

    fixed = 1

    @property
    def most(self) -> int:
        return self.fixed


def arrays(bad: int | None = None) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    features, labels = rng.random((COUNT, WIDTH), np.float32), rng.integers(0, CLASSES, COUNT).astype(np.int32)
    if bad is not None:
        features[bad] = np.nan
    return {"x": features}, labels


def make_loop(
    spec: TrainSpec,
    replica: Replica,
    kept: KeepingRecorder,
    snapshot: Snapshot | None = None,
    most: int | None = None,
    bad: int | None = None,
    more: tuple[keras.callbacks.Callback, ...] = (),
) -> TrainingLoop:
    """As jobs.training.trainer makes it, restored from the snapshot if there is one."""
    features, labels = arrays(bad)
    training, held_out = split_validation(spec.seed, COUNT, spec.evaluate.validation)
    plan = BatchPlan(training, spec.batch, spec.seed)
    callbacks = [*make_callbacks(spec, None), *more]
    states = CallbackStates(callbacks, kept.event)
    pace = StepsPerExecution(1, proposes=True, single_steps=observes_batches(callbacks))
    if most is not None:
        pace = FixedStepsPerExecution(1, proposes=True)
        pace.fixed = most  # type: ignore[attr-defined]
    replica.model.stop_training = False
    if snapshot:
        restore(replica.model, replica.optimizer, replica.space, snapshot)
    outer = OuterLoop(
        spec=spec,
        intervals=Intervals(spec, plan.steps_per_epoch),
        replica=replica,
        pace=pace,
        validation=Evaluator(replica, features, labels, held_out, 0, 1) if len(held_out) else None,
        recorder=kept,
        callbacks=keras.callbacks.CallbackList(callbacks, model=replica.model, add_history=False),
        callback_states=states.take,
        state=LoopState.restored(snapshot) if snapshot else LoopState.fresh(1 + len(replica.metric_names)),
    )
    outer.callbacks.on_train_begin()
    states.begin(snapshot)
    return TrainingLoop(outer=outer, replica=replica, feeder=BatchFeeder(plan, features, labels, None))


def run(*arguments: Any, **more: Any) -> tuple[str, TrainingLoop]:
    loop = make_loop(*arguments, **more)
    try:
        return loop.run(), loop
    finally:
        loop.feeder.close()


def result(loop: TrainingLoop) -> tuple[list[bytes], list[dict[str, Any]]]:
    """All variables as bytes, and the rows without what the clock says."""
    variables = [array for tensors in loop.replica.copies() for array in tensors.values()]
    rows = [{name: value for name, value in row.items() if name not in CLOCK} for row in loop.outer.state.history]
    return [array.tobytes() for array in variables], rows
