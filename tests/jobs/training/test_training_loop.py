"""The loop on random data: the same run however it is cut, stopped and restored."""

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from jobs.artifacts.checkpoints import CheckpointStore, Snapshot
from jobs.training.batches import BatchFeeder, BatchPlan, split_validation
from jobs.training.callback_state import CallbackStates
from jobs.training.callbacks import make_callbacks, observes_batches
from jobs.training.evaluation import Evaluator
from jobs.training.intervals import Intervals
from jobs.training.outer_loop import judged, latest_metrics
from jobs.training.replica import Replica
from jobs.training.state import LoopState
from jobs.training.steps_per_execution import StepsPerExecution
from jobs.training.training_loop import TrainingLoop
from jobs.training.variables import assign_variables, copy_model, copy_variables
from service.errors import BadLoss
from service.records.run_record import RunRecord
from service.specs.train import TrainSpec
from service.storage.local import LocalStore

MakeSpec = Callable[..., TrainSpec]
MakeReplica = Callable[..., Replica]
COUNT, WIDTH, CLASSES = 48, 5, 3
# 43 examples to train on, 8 a step: five steps an epoch.
LENGTH = {"steps": 13, "log_every": 4}
CLOCK = ("time", "examples_per_second")


class Noise(layers.Layer):
    """A user's layer that draws without a seed."""

    def call(self, x: Any, training: bool = False) -> Any:
        return x + keras.random.normal((8, 6), stddev=0.1) if training else x


def busy() -> keras.Model:
    hidden = [layers.Dense(6, "tanh"), layers.BatchNormalization(), Noise(), layers.Dropout(0.3)]
    return keras.Sequential([keras.Input((WIDTH,)), *hidden, layers.Dense(CLASSES)])


def plain() -> keras.Model:
    return keras.Sequential([keras.Input((WIDTH,)), layers.Dense(CLASSES)])


class KeepingRecorder:
    """Keeps what the loop says; asks it to stop once `stop_at` steps are done."""

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
        assign_variables(replica.model.variables, snapshot.model)
        assign_variables(replica.optimizer.variables, snapshot.optimizer)
        assign_variables(replica.space.kept, snapshot.space)
    loop = TrainingLoop(
        spec=spec,
        intervals=Intervals(spec, plan.steps_per_epoch),
        replica=replica,
        feeder=BatchFeeder(plan, features, labels, None),
        pace=pace,
        validation=Evaluator(replica, features, labels, held_out, 0, 1) if len(held_out) else None,
        recorder=kept,
        callbacks=keras.callbacks.CallbackList(callbacks, model=replica.model, add_history=False),
        callback_states=states.take,
        state=LoopState.restored(snapshot) if snapshot else LoopState.fresh(1 + len(replica.metric_names)),
    )
    loop.callbacks.on_train_begin()
    states.begin(snapshot)
    return loop


def run(*arguments: Any, **more: Any) -> tuple[str, TrainingLoop]:
    loop = make_loop(*arguments, **more)
    try:
        return loop.run(), loop
    finally:
        loop.feeder.close()


def result(loop: TrainingLoop) -> tuple[list[bytes], list[dict[str, Any]]]:
    """All variables as bytes, and the rows without what the clock says."""
    others = (copy_variables(variables) for variables in (loop.replica.optimizer.variables, loop.replica.space.kept))
    variables = [array for tensors in (copy_model(loop.replica.model), *others) for array in tensors.values()]
    rows = [{name: value for name, value in row.items() if name not in CLOCK} for row in loop.state.history]
    return [array.tobytes() for array in variables], rows


PLATEAU = {"name": "ReduceLROnPlateau", "patience": 1, "factor": 0.5, "min_delta": 10.0, "verbose": 0}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"optimizer": {"name": "sgd", "learning_rate": {"name": "one-cycle", "peak": 0.5}, "momentum": 0.9}},
        {"callbacks": [PLATEAU]},
        {"evaluate": {"validation": 0}, "batch": 8},
        {"optimizer": {"name": "sgd", "learning_rate": 0.5, "use_ema": True, "ema_momentum": 0.8}, "precision": "float16"},
    ],
    ids=str,
)
def test_a_run_that_is_restored_at_any_step_ends_bit_for_bit_as_one_that_never_stopped(
    make_spec: MakeSpec, make_replica: MakeReplica, tmp_path: Path, keys: dict[str, Any]
) -> None:
    spec = make_spec(**LENGTH, checkpoint={"every_steps": 1, "keep_last": 100}, **keys)
    outcome, whole = run(make_spec(**LENGTH, **keys), make_replica(spec, busy), KeepingRecorder())
    assert outcome == "succeeded"
    wanted = result(whole)

    replica, kept = make_replica(spec, busy), KeepingRecorder()
    _, saving = run(spec, replica, kept)
    assert result(saving) == wanted
    assert [snapshot.step for snapshot in kept.snapshots] == list(range(1, 14))
    checkpoints = CheckpointStore(RunRecord(LocalStore(tmp_path / "store"), "a-run"), spec.checkpoint, "0001")
    for snapshot in kept.snapshots:
        checkpoints.save(snapshot)
    for step in range(1, 14):
        again = KeepingRecorder()
        outcome, loop = run(spec, replica, again, checkpoints.load(step))
        assert outcome == "succeeded"
        assert result(loop) == wanted, f"restored at step {step}"
        assert [snapshot.step for snapshot in again.snapshots] == list(range(step + 1, 14))


def test_a_run_in_target_space_is_restored_bit_for_bit(make_spec: MakeSpec, make_replica: MakeReplica, tmp_path: Path) -> None:
    def build() -> keras.Model:
        return keras.Sequential([keras.Input((WIDTH,)), layers.Dense(6, "tanh"), layers.Dropout(0.3), layers.Dense(CLASSES)])

    spec = make_spec(**LENGTH, checkpoint={"every_steps": 5, "keep_last": 100}, space={"name": "target", "ridge": 0.01})
    realisation = arrays()[0]["x"][:10]
    kept = KeepingRecorder()
    _, whole = run(spec, make_replica(spec, build, realisation=realisation), kept)
    checkpoints = CheckpointStore(RunRecord(LocalStore(tmp_path / "store"), "a-run"), spec.checkpoint, "0001")
    checkpoints.save(kept.snapshots[0])
    other = make_replica(spec.model_copy(update={"seed": 77}), build, realisation=realisation)
    _, loop = run(spec, other, KeepingRecorder(), checkpoints.load(5))
    assert result(loop) == result(whole)


def test_another_process_goes_on_as_the_same(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    spec = make_spec(**LENGTH, checkpoint={"every_steps": 6})
    kept = KeepingRecorder()
    _, whole = run(spec, make_replica(spec, busy), kept)
    fresh = make_replica(spec.model_copy(update={"seed": 77}), busy)
    _, loop = run(spec, fresh, KeepingRecorder(), kept.snapshots[0])
    assert result(loop) == result(whole)


@pytest.mark.parametrize("most", [1, 2, 3, 256])
def test_the_number_of_steps_a_call_changes_nothing(make_spec: MakeSpec, make_replica: MakeReplica, most: int) -> None:
    spec = make_spec(**LENGTH)
    _, reference = run(spec, make_replica(spec, busy), KeepingRecorder())
    _, loop = run(spec, make_replica(spec, busy), KeepingRecorder(), most=most)
    assert result(loop) == result(reference)


def test_rows_are_means_over_the_steps_since_the_row_before(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    rows = {}
    for every in (1, 4):
        spec = make_spec(steps=13, log_every=every)
        kept = KeepingRecorder()
        run(spec, make_replica(spec, plain), kept)
        rows[every] = kept.rows
    assert [row["step"] for row in rows[1]] == list(range(1, 14))
    assert [row["step"] for row in rows[4]] == [4, 5, 8, 10, 12, 13]
    assert [row["epoch"] for row in rows[4]] == [1, 1, 2, 2, 3, 3]
    before = 0
    for row in rows[4]:
        single = [one for one in rows[1] if before < one["step"] <= row["step"]]
        for name in ("loss", "accuracy"):
            assert row[name] == pytest.approx(np.mean([one[name] for one in single]), rel=1e-6)
        before = row["step"]
    assert [row["step"] for row in rows[4] if "val_loss" in row] == [5, 10, 13]


def test_a_row_says_the_learning_rate_of_its_step(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    schedule = {"name": "piecewise", "boundaries": [4, 8], "values": [0.5, 0.25, 0.125]}
    spec = make_spec(steps=12, log_every=1, optimizer={"name": "sgd", "learning_rate": schedule})
    kept = KeepingRecorder()
    run(spec, make_replica(spec, plain), kept)
    assert {row["learning_rate"] for row in kept.rows} == {0.5, 0.25, 0.125}


@pytest.mark.parametrize("most", [1, 3, 256])
def test_a_loss_that_is_no_number_ends_the_run_and_names_the_step(
    make_spec: MakeSpec, make_replica: MakeReplica, most: int
) -> None:
    spec = make_spec(**LENGTH, evaluate={"validation": 0})
    plan = BatchPlan(np.arange(COUNT), 8, 0)
    bad = int(plan.indices(2, 1)[0, 0])
    kept = KeepingRecorder()
    with pytest.raises(BadLoss, match="The loss became nan at step 3: use a smaller learning rate"):
        run(spec, make_replica(spec, plain), kept, most=most, bad=bad)
    assert kept.snapshots == []
    assert kept.rows == []


def test_an_evaluation_that_is_no_number_ends_the_run_and_names_step_and_metric(
    make_spec: MakeSpec, make_replica: MakeReplica
) -> None:
    spec = make_spec(**LENGTH)
    held_out = split_validation(spec.seed, COUNT, spec.evaluate.validation)[1]
    kept = KeepingRecorder()
    with pytest.raises(BadLoss, match=r"at step 5 \(epoch 1\) found val_loss nan, though .* finite in the validation examples\."):
        run(spec, make_replica(spec, plain), kept, bad=int(held_out[0]))
    assert [row["step"] for row in kept.rows] == [4]
    assert kept.snapshots == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["loss", "accuracy"])
def test_no_value_of_an_evaluation_may_be_no_number(name: str, value: float) -> None:
    class Evaluates:
        def evaluate(self) -> dict[str, float]:
            return {"loss": 1.0, "accuracy": 0.5, name: value}

    with pytest.raises(BadLoss, match=rf"at step 40 \(epoch 3\) found test_{name} {value}, .* in the test examples"):
        judged(Evaluates(), "test", 3, 40)


@pytest.mark.parametrize(("stop_at", "scored"), [(3, False), (5, True), (10, True), (11, False)])
def test_a_request_to_stop_saves_the_step_and_the_run_goes_on_later(
    make_spec: MakeSpec, make_replica: MakeReplica, stop_at: int, scored: bool
) -> None:
    spec = make_spec(**LENGTH)
    _, whole = run(spec, make_replica(spec, busy), KeepingRecorder())
    kept = KeepingRecorder(stop_at)
    outcome, loop = run(spec, make_replica(spec, busy), kept, most=1)
    assert outcome == "cancelled"
    assert loop.state.step == stop_at
    # One snapshot of each step: a second one would lose the score of the evaluation.
    assert [snapshot.step for snapshot in kept.snapshots] == sorted({step for step in (5, 10) if step <= stop_at} | {stop_at})
    assert (kept.snapshots[-1].score is not None) == scored
    outcome, resumed = run(spec, make_replica(spec, busy), KeepingRecorder(), kept.snapshots[-1])
    assert outcome == "succeeded"
    assert result(resumed) == result(whole)


def test_a_request_to_stop_at_the_last_step_comes_too_late(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    spec = make_spec(steps=5)
    outcome, loop = run(spec, make_replica(spec, plain), KeepingRecorder(stop_at=5), most=1)
    assert (outcome, loop.state.step) == ("succeeded", 5)


@pytest.mark.parametrize(
    "keys",
    [
        {"early_stopping": {"patience": 2, "min_delta": 100.0}},
        {"callbacks": [{"name": "EarlyStopping", "patience": 2, "min_delta": 100.0}]},
    ],
    ids=["of Delayline", "of Keras"],
)
def test_early_stopping_ends_the_run_saves_it_and_stays_ended(
    make_spec: MakeSpec, make_replica: MakeReplica, keys: dict[str, Any]
) -> None:
    spec = make_spec(epochs=9, checkpoint={"every_epochs": 2}, **keys)
    replica, kept = make_replica(spec, busy), KeepingRecorder()
    outcome, loop = run(spec, replica, kept)
    assert outcome == "succeeded"
    assert loop.state.step == 15
    assert [snapshot.step for snapshot in kept.snapshots] == [10, 15]
    assert ("early stop" in kept.events) == ("early_stopping" in keys)
    wanted = result(loop)
    for snapshot in kept.snapshots:
        again = KeepingRecorder()
        outcome, loop = run(spec, replica, again, snapshot)
        assert outcome == "succeeded"
        assert result(loop) == wanted
        assert len(again.snapshots) == (15 - snapshot.step) // 5


def test_a_checkpoints_score_is_that_of_its_evaluation(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    spec = make_spec(**LENGTH, checkpoint={"every_steps": 1})
    kept = KeepingRecorder()
    run(spec, make_replica(spec, plain), kept)
    scores = {snapshot.step: snapshot.score for snapshot in kept.snapshots}
    assert {step for step, score in scores.items() if score is not None} == {5, 10, 13}
    assert all(scores[row["step"]] == row["val_loss"] for row in kept.rows if "val_loss" in row)


@pytest.mark.parametrize(
    "keys",
    [
        {"ema_momentum": 0.5},
        {"ema_momentum": 0.5, "ema_overwrite_frequency": 3},
        {"ema_momentum": 0.9, "gradient_accumulation_steps": 2},
        {"ema_momentum": 0.9, "precision": "float16"},
    ],
    ids=str,
)
def test_evaluations_are_of_the_averages_and_the_training_goes_on_from_the_weights(
    make_spec: MakeSpec, make_replica: MakeReplica, keys: dict[str, Any]
) -> None:
    precision = {name: value for name, value in keys.items() if name == "precision"}
    arguments = {"name": "sgd", "learning_rate": 0.5, **{name: value for name, value in keys.items() if name not in precision}}
    averaging = make_spec(**LENGTH, **precision, checkpoint={"every_steps": 1}, optimizer={**arguments, "use_ema": True})
    replica, kept = make_replica(averaging, plain), KeepingRecorder()
    _, loop = run(averaging, replica, kept)
    features, labels = arrays()
    held_out = split_validation(0, COUNT, averaging.evaluate.validation)[1]
    for snapshot in kept.snapshots:
        averages = [array for name, array in sorted(snapshot.optimizer.items()) if name.endswith("average")]
        assert [array.tobytes() for array in averages] == [snapshot.averaged[name].tobytes() for name in list(snapshot.model)[:2]]
        for row in (row for row in kept.rows if row["step"] == snapshot.step and "val_loss" in row):
            logits = features["x"][held_out] @ averages[0] + averages[1]
            losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(held_out)), labels[held_out]]
            assert row["val_loss"] == pytest.approx(losses.mean(), rel=1e-4)
    if "ema_overwrite_frequency" not in keys:
        # Keras' own numbers without averages are those that the training goes on from.
        alone, weights = (
            make_spec(**LENGTH, **precision, optimizer={k: v for k, v in arguments.items() if k != "ema_momentum"}),
            KeepingRecorder(),
        )
        _, unaveraged = run(alone, make_replica(alone, plain), weights)
        assert result(loop)[0][:2] == result(unaveraged)[0][:2]
        assert [row["val_loss"] for row in kept.rows if "val_loss" in row] != [
            row["val_loss"] for row in weights.rows if "val_loss" in row
        ]


def test_averages_of_targets_are_what_the_weights_follow_from(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    def build() -> keras.Model:
        return keras.Sequential([keras.Input((WIDTH,)), layers.Dense(6, "tanh"), layers.Dense(CLASSES)])

    arguments = {"name": "sgd", "learning_rate": 0.5, "use_ema": True, "ema_momentum": 0.5}
    spec = make_spec(**LENGTH, space={"name": "target", "ridge": 0.01}, checkpoint={"every_steps": 13}, optimizer=arguments)
    replica, kept = make_replica(spec, build, realisation=arrays()[0]["x"][:10]), KeepingRecorder()
    run(spec, replica, kept)
    (snapshot,) = kept.snapshots
    targets = [array for name, array in sorted(snapshot.optimizer.items()) if name.endswith("average")]
    for variable, value in zip(replica.space.variables, targets, strict=True):
        variable.assign(value)
    replica.space.realise()
    wanted = copy_variables(replica.model.variables)
    for got, value in zip(snapshot.averaged.values(), wanted.values(), strict=False):
        np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-6)


def test_before_the_first_step_there_are_no_averages(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    # Each step overflows float16, so that none is done.
    spec = make_spec(**LENGTH, precision="float16", optimizer={"name": "sgd", "use_ema": True})
    replica, kept = make_replica(spec, plain), KeepingRecorder()
    replica.optimizer.dynamic_scale.assign(np.inf)
    run(spec, replica, kept)
    assert int(np.asarray(replica.optimizer.iterations.value)) == 0
    assert kept.snapshots[-1].averaged == {}
    assert kept.rows[-1]["val_loss"] == kept.rows[1]["val_loss"]


def test_a_new_best_is_saved_if_the_run_ends_with_the_best(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    falling = {"name": "piecewise", "boundaries": [5], "values": [0.1, 20.0]}
    keys = {**LENGTH, "checkpoint": {"every_steps": 7}, "optimizer": {"name": "sgd", "learning_rate": falling}}
    for restore_best, wanted in ((True, [5, 7, 13]), (False, [7, 13])):
        spec = make_spec(**keys, early_stopping={"restore_best": restore_best, "patience": 9})
        kept = KeepingRecorder()
        run(spec, make_replica(spec, plain), kept)
        assert [snapshot.step for snapshot in kept.snapshots] == wanted
        assert kept.snapshots[0].score == (kept.rows[1]["val_loss"] if restore_best else None)


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


NAMES = ["accuracy", "loss", "val_accuracy", "val_loss"]


def test_callbacks_hear_of_epochs_once_also_when_the_run_was_restored_in_the_middle(
    make_spec: MakeSpec, make_replica: MakeReplica
) -> None:
    spec = make_spec(**LENGTH, checkpoint={"every_steps": 7})
    replica, kept, recorder = make_replica(spec, plain), KeepingRecorder(), Recorder()
    run(spec, replica, kept, more=(recorder,))
    whole = [("begin", 0), ("end", 0, NAMES), ("begin", 1), ("end", 1, NAMES), ("begin", 2), ("end", 2, NAMES)]
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


def test_callbacks_that_want_batches_hear_of_each(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    spec = make_spec(steps=7)
    recorder = BatchRecorder()
    run(spec, make_replica(spec, plain), KeepingRecorder(), more=(recorder,))
    assert [call[1] for call in recorder.calls if call[0] == "batch"] == [0, 1, 2, 3, 4, 0, 1]
    assert [call[1:] for call in recorder.calls if call[0] == "done"] == [
        (batch, ["accuracy", "loss"]) for batch in (0, 1, 2, 3, 4, 0, 1)
    ]


def test_what_the_loop_tells_while_it_runs(make_spec: MakeSpec, make_replica: MakeReplica) -> None:
    spec = make_spec(**LENGTH)
    kept = KeepingRecorder()
    run(spec, make_replica(spec, plain), kept, most=1)
    assert [update["step"] for update in kept.updates] == list(range(1, 14))
    assert set(kept.updates[-1]["metrics"]) == set(NAMES)
    assert all(update["examples_per_second"] >= 0 for update in kept.updates)
    assert kept.updates[-1]["eta_seconds"] in (None, 0.0)


def test_the_newest_value_of_each_metric_is_the_latest() -> None:
    rows = [{"step": 1, "loss": 3.0, "val_loss": 2.0, "time": 1.0}, {"step": 2, "loss": 1.0, "time": 2.0}]
    assert latest_metrics(rows) == {"loss": 1.0, "val_loss": 2.0}
    assert latest_metrics([]) == {}
