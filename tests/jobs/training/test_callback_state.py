"""What checkpoints keep of callbacks, and what they say they cannot."""

import collections
import itertools
import json
import logging
import math
import random
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from jobs.artifacts.checkpoints import CheckpointStore, Snapshot
from jobs.training.callback_state import CallbackStates
from jobs.training.callbacks import make_callbacks
from service.errors import UserFailure
from service.records.run_record import RunRecord
from service.specs.parts import CheckpointPolicy
from service.specs.train import TrainSpec
from service.storage.local import LocalStore


def model_of(callback: keras.callbacks.Callback) -> None:
    callback.set_model(SimpleNamespace(stop_training=False, optimizer=keras.optimizers.SGD(0.5)))
    callback.on_train_begin()


def snapshot_of(states: CallbackStates) -> Snapshot:
    """As it comes back from a store."""
    documents, arrays = states.take()
    position = json.loads(json.dumps({"callbacks": documents}, allow_nan=False))
    return Snapshot(1, 1, {}, {}, [], position, callbacks=arrays)


def resumed(before: keras.callbacks.Callback, after: keras.callbacks.Callback) -> list[str]:
    """Put the state of one callback into another one; return what was reported."""
    told: list[str] = []
    model_of(after)
    CallbackStates([after], lambda event, message, **details: told.append(message)).begin(snapshot_of(CallbackStates([before])))
    return told


def feed(callback: keras.callbacks.Callback, losses: list[float], first: int = 0) -> list[tuple[bool, float]]:
    """After each epoch: whether the callback wants to stop, and the learning rate."""
    seen = []
    for epoch, loss in enumerate(losses, start=first):
        callback.on_epoch_end(epoch, {"val_loss": loss, "loss": loss})
        seen.append((bool(callback.model.stop_training), float(callback.model.optimizer.learning_rate)))
    return seen


ENTRIES = [
    {"name": "EarlyStopping", "patience": 2, "min_delta": 0.5},
    {"name": "EarlyStopping", "patience": 1, "start_from_epoch": 3, "mode": "max"},
    {"name": "ReduceLROnPlateau", "patience": 1, "factor": 0.5, "cooldown": 1, "min_delta": 0.5},
]


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(losses=st.lists(st.integers(0, 3).map(float), min_size=1, max_size=8), cut=st.integers(0, 8))
def test_a_restored_callback_decides_as_one_that_never_stopped(entry: dict[str, Any], losses: list[float], cut: int) -> None:
    def make() -> keras.callbacks.Callback:
        callback = make_callbacks(TrainSpec(model="dense", dataset="digits", epochs=1, callbacks=(entry,)), None)[0]
        model_of(callback)
        return callback

    whole, before, after = make(), make(), make()
    wanted = feed(whole, losses)
    feed(before, losses[:cut])
    assert resumed(before, after) == []
    after.model.optimizer.learning_rate.assign(before.model.optimizer.learning_rate)
    after.model.stop_training = before.model.stop_training
    assert feed(after, losses[cut:], cut) == wanted[cut:]
    assert (
        snapshot_of(CallbackStates([after])).position["callbacks"]["states"]
        == (snapshot_of(CallbackStates([whole])).position["callbacks"]["states"])
    )


class Rich(keras.callbacks.Callback):
    """Holds what people hold, and draws from it."""

    def __init__(self) -> None:
        super().__init__()
        self._window = collections.deque(maxlen=3)
        self.counts: dict[Any, Any] = {}
        self.seen: set[Any] = set()
        self.weights = np.zeros((2, 3), np.float32)
        self.total = np.float32(0)
        self.rng = np.random.default_rng(3)
        self.dice = random.Random(4)
        self.best = math.inf
        self.mean = keras.metrics.Mean()
        self.seeds = keras.random.SeedGenerator(5)
        self.tensor = tf.zeros(2, tf.bfloat16)
        self.variable = tf.Variable([0.0, 0.0])
        self.lines: list[Any] = []
        self.log = logging.getLogger(__name__)
        self.lock = threading.Lock()
        self.choose = abs

    def on_train_begin(self, logs: Any = None) -> None:
        self.started = True
        self.shared = self.lines

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        loss = np.float32(logs["loss"])
        self._window.append((epoch, loss))
        self.counts[epoch] = self.counts[epoch, "drawn"] = int(self.rng.integers(100))
        self.seen.add(epoch % 3)
        self.weights[epoch % 2] += self.rng.normal(size=3).astype(np.float32)
        self.total += loss * np.float32(self.dice.random())
        self.best = min(self.best, float(loss))
        self.mean.update_state(loss)
        self.tensor += tf.cast(keras.random.normal((2,), seed=self.seeds), tf.bfloat16)
        self.variable.assign_add([loss, 1.0])
        self.shared.append(
            [
                list(self._window),
                sum(self.counts.values()) + self.counts[0],
                sorted(self.seen),
                self.weights.tobytes(),
                self.total.tobytes(),
                float(self.mean.result()),
                self.tensor.numpy().tobytes(),
                self.variable.numpy().tobytes(),
                random.random(),
                np.random.normal(),
            ]
        )


@pytest.mark.parametrize("cut", [1, 4])
def test_a_callback_with_arrays_sets_queues_and_generators_is_restored_bit_for_bit(cut: int) -> None:
    def run(callback: keras.callbacks.Callback, first: int, last: int) -> None:
        for epoch in range(first, last):
            callback.on_epoch_end(epoch, {"loss": 1 / (epoch + 1)})

    whole, before, after = Rich(), Rich(), Rich()
    keras.utils.set_random_seed(1)
    model_of(whole)
    run(whole, 0, 6)
    keras.utils.set_random_seed(1)
    model_of(before)
    (states := CallbackStates([before])).begin()
    run(before, 0, cut)
    saved = snapshot_of(states)
    assert saved.position["callbacks"]["told"] == []
    keras.utils.set_random_seed(2)
    model_of(after)
    CallbackStates([after]).begin(saved)
    run(after, cut, 6)
    assert after.lines == whole.lines
    assert after.shared is after.lines


class Own(keras.callbacks.Callback):
    """Keeps its state by itself, in a form that its attributes do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(3)
        self.calls: list[Any] = []

    def get_state(self) -> dict[int, Any]:
        return {len(self.window.rows): np.asarray(self.window.rows, np.float32)}

    def set_state(self, state: dict[int, Any]) -> None:
        ((count, rows),) = state.items()
        self.calls.append((count, rows.dtype.name))
        self.window.rows = rows.tolist()


class Window:
    def __init__(self, size: int) -> None:
        self.size, self.rows = size, [0.5]


class Stateful(Window):
    def get_state(self) -> Any:
        return tuple(self.rows)

    def set_state(self, state: Any) -> None:
        self.rows = [*state]


def test_get_state_and_set_state_are_used_where_there_are() -> None:
    before, after = Own(), Own()
    model_of(before)
    before.window.rows = [1.5, 2.5]
    assert resumed(before, after) == []
    assert (after.window.rows, after.calls) == ([1.5, 2.5], [(2, "float32")])


def test_objects_with_a_state_take_it_up_where_they_stand() -> None:
    def make() -> keras.callbacks.Callback:
        callback = keras.callbacks.Callback()
        callback.parts = [Stateful(1), {"a": (Stateful(2), keras.metrics.Mean())}]
        callback.again = callback.parts[0]
        return callback

    before, after = make(), make()
    model_of(before)
    before.parts[0].rows, before.parts[1]["a"][0].rows = [7], [8, 9]
    before.parts[1]["a"][1].update_state(3.0)
    standing = after.parts[0]
    assert resumed(before, after) == []
    assert after.parts[0] is after.again is standing
    assert (standing.rows, after.parts[1]["a"][0].rows) == ([7], [8, 9])
    assert float(after.parts[1]["a"][1].result()) == 3.0


def test_methods_of_these_names_with_other_arguments_are_something_else() -> None:
    class Other(keras.callbacks.Callback):
        count = 0

        def get_state(self, key: str) -> str:
            return key

        def set_state(self, key: str, value: str) -> None: ...

    before, after = Other(), Other()
    model_of(before)
    before.count = 5
    assert resumed(before, after) == []
    assert after.count == 5


def test_a_users_method_that_fails_is_their_failure() -> None:
    class Fails(Own):
        def get_state(self) -> Any:
            raise ValueError("my own mistake")

    class Forgets(Own):
        def set_state(self, state: Any) -> None:
            raise KeyError("rows")

    with pytest.raises(UserFailure, match=r"Fails.get_state failed: ValueError: my own mistake") as failed:
        CallbackStates([Fails()]).take()
    assert 'raise ValueError("my own mistake")' in failed.value.user_traceback
    with pytest.raises(UserFailure, match=r"Forgets.set_state failed: KeyError: 'rows'"):
        resumed(Own(), Forgets())


def test_what_cannot_be_kept_is_reported_once_with_its_name_type_and_remedy() -> None:
    def make() -> keras.callbacks.Callback:
        callback = keras.callbacks.Callback()
        callback.tool, callback.rows, callback.kept, callback.lines = object(), [1, Window(2)], 5, itertools.count()
        return callback

    told: list[tuple[str, dict[str, Any]]] = []
    callback = make()
    model_of(callback)
    states = CallbackStates([callback], lambda event, message, **details: told.append((f"{event}: {message}", details)))
    states.begin()
    saved = [snapshot_of(states), snapshot_of(states)][1]
    ((message, details),) = told
    assert message.startswith("callback state: checkpoints cannot keep of the callback keras.src.callbacks.callback.Callback: ")
    for part in ("tool (object)", f"rows (list, which holds a {__name__}.Window)", "lines (itertools.count)", "get_state()"):
        assert part in message
    assert details["attributes"] == ["tool", "rows", "lines"]
    callback.later = open
    snapshot_of(states)
    assert [details["attributes"] for _, details in told[1:]] == [["later"]]

    again = make()
    model_of(again)
    after = CallbackStates([again], lambda event, message, **details: told.append((message, details)))
    after.begin(saved)
    snapshot_of(after)
    assert len(told) == 2
    assert again.kept == 5


def test_what_get_state_returns_and_cannot_be_kept_is_reported() -> None:
    class Returns(Own):
        def get_state(self) -> Any:
            return {"window": self.window}

    told = []
    states = CallbackStates([Returns()], lambda event, message, **details: told.append(message))
    snapshot_of(states)
    snapshot_of(states)
    assert len(told) == 1
    assert f"a {__name__}.Window is among what checkpoints cannot keep" in told[0]
    assert resumed(Returns(), Own()) == []


def test_what_can_no_longer_be_put_back_is_reported() -> None:
    before, after = keras.callbacks.Callback(), keras.callbacks.Callback()
    before.window, before.count = Stateful(1), 7
    model_of(before)
    (message,) = resumed(before, after)
    assert "its attribute window" in message
    assert f"there is no {__name__}.Stateful yet, but a NoneType" in message
    assert after.count == 7


def test_the_trained_model_and_what_is_made_of_it_are_in_the_checkpoint_already() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)])
    object.__setattr__(model, "optimizer", keras.optimizers.SGD(0.5))
    model.optimizer.build(model.trainable_variables)
    told: list[str] = []

    def make() -> keras.callbacks.Callback:
        callback = keras.callbacks.Callback()
        callback.set_model(model)
        callback.probe = keras.Model(model.inputs, model.layers[0].output)
        callback.same, callback.rate, callback.head = model, model.optimizer, model.layers[-1]
        callback.teacher = keras.layers.Dense(1)
        callback.teacher.build((None, 2))
        return callback

    callback, after = make(), make()
    states = CallbackStates([callback], lambda event, message, **details: told.append(message))
    states.begin()
    saved = snapshot_of(states)
    wanted = callback.teacher.get_weights()
    CallbackStates([after], lambda event, message, **details: told.append(message)).begin(saved)
    assert told == []
    assert all(np.array_equal(a, b) for a, b in zip(after.teacher.get_weights(), wanted, strict=True))
    assert after.same is model


def test_large_arrays_are_a_file_of_the_checkpoint(tmp_path: Path) -> None:
    before, after = keras.callbacks.Callback(), keras.callbacks.Callback()
    before.rows = [np.arange(100_000.0), np.arange(3)]
    model_of(before)
    model_of(after)
    checkpoints = CheckpointStore(RunRecord(LocalStore(tmp_path / "store"), "a-run"), CheckpointPolicy(), "0001")
    checkpoints.save(snapshot_of(CallbackStates([before])))
    files = {path.name: path.stat().st_size for path in tmp_path.rglob("*.*")}
    assert files["manifest.json"] < 30_000
    assert files["callbacks.safetensors"] > 800_000
    CallbackStates([after]).begin(checkpoints.load(1))
    assert [row.tobytes() for row in after.rows] == [row.tobytes() for row in before.rows]


def test_a_state_of_the_first_format_is_put_back() -> None:
    class Older(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.array, self.pair, self.number = np.zeros(2, np.float32), (0, 0), np.float32(0)

    state = {
        "array": [[1.0, 2.0]],
        "pair": [[3, 4]],
        "number": [0.5],
        "best": {"float": "inf"},
        "op": {"ops": "less"},
        "a": [None],
    }
    after = Older()
    model_of(after)
    CallbackStates([after]).begin(Snapshot(1, 1, {}, {}, [], {"callbacks": [state]}))
    assert (after.array.tolist(), after.array.dtype, after.pair) == ([1.0, 2.0], np.dtype("float32"), (3, 4))
    assert (after.number, type(after.number), after.best, after.op, after.a) == (0.5, np.float32, math.inf, keras.ops.less, None)


def test_keras_own_log_finds_its_file_again(tmp_path: Path) -> None:
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv", append=True)
    model_of(log)
    told: list[str] = []
    states = CallbackStates([log], lambda event, message, **details: told.append(message))
    states.begin()
    log.on_epoch_end(0, {"loss": 1.0})
    saved = snapshot_of(states)
    again = keras.callbacks.CSVLogger(tmp_path / "log.csv", append=True)
    model_of(again)
    CallbackStates([again]).begin(saved)
    again.on_epoch_end(1, {"loss": 0.5, "new": 3.0})
    again.on_train_end()
    log.on_train_end()
    assert (tmp_path / "log.csv").read_text().split() == ["epoch,loss,val_loss", "0,1.0,NA", "1,0.5,NA"]
    assert told == []
