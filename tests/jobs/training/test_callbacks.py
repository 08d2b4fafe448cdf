"""Callbacks by name and of the user's own."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import pytest

from jobs.training.callbacks import make_callbacks, observes_batches
from service.errors import InvalidInput, UserFailure
from service.specs import choices as vocabulary
from service.specs.parts import Named
from service.specs.train import TrainSpec

MakeSpec = Callable[..., TrainSpec]

MINE = """
import keras

class Counter(keras.callbacks.Callback):
    def __init__(self, start=0):
        super().__init__()
        self.count, self.best, self.names, self._hidden, self.tool = start, float("inf"), ["a"], 7, object()

class Batches(Counter):
    def on_train_batch_end(self, batch, logs=None):
        self.count += 1

def make(start=0):
    return Counter(start)

def batches():
    return Batches()

def fails():
    raise ValueError("my own mistake")

def nothing():
    return None
"""


@pytest.fixture
def mine(make_spec: MakeSpec, user_folder: Path) -> Callable[..., list[keras.callbacks.Callback]]:
    """Makes the callbacks of a spec; the module `mine` is the user's."""
    (user_folder / "mine.py").write_text(MINE)
    return lambda *entries: make_callbacks(make_spec(callbacks=entries), str(user_folder))


def test_keras_callbacks_are_made_by_name_with_their_arguments(make_spec: MakeSpec) -> None:
    entries = [{"name": "EarlyStopping", "patience": 4}, {"name": "ReduceLROnPlateau", "factor": 0.5}, {"name": "TerminateOnNaN"}]
    stop, reduce, nan = make_callbacks(make_spec(callbacks=entries), None)
    assert isinstance(stop, keras.callbacks.EarlyStopping)
    assert isinstance(reduce, keras.callbacks.ReduceLROnPlateau)
    assert isinstance(nan, keras.callbacks.TerminateOnNaN)
    assert (stop.patience, reduce.factor) == (4, 0.5)


def test_no_callbacks_are_none(make_spec: MakeSpec) -> None:
    assert make_callbacks(make_spec(), None) == []


def test_a_users_own_callback_is_made_from_their_folder(mine: Callable[..., list[Any]]) -> None:
    (made,) = mine({"name": "mine:make", "start": 5})
    assert made.count == 5


@pytest.mark.parametrize(("name", "why"), vocabulary.REFUSED_CALLBACKS.items())
def test_callbacks_that_cannot_work_are_refused_with_the_remedy(make_spec: MakeSpec, name: str, why: str) -> None:
    spec = make_spec().model_copy(update={"callbacks": (Named(name=name),)})
    with pytest.raises(InvalidInput) as refused:
        make_callbacks(spec, None)
    assert str(refused.value) == f"The callback {name} does not work here: {why}."


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "Callback"}, "There is no callback 'Callback': use CSVLogger, EarlyStopping"),
        ({"name": "EarlyStoping"}, "There is no callback 'EarlyStoping'"),
        ({"name": "EarlyStopping", "patient": 3}, "The callback EarlyStopping was refused by Keras: .*patient"),
        ({"name": "EarlyStopping", "restore_best_weights": True}, "use early_stopping.restore_best"),
        ({"name": "ReduceLROnPlateau", "factor": 2}, "The callback ReduceLROnPlateau was refused by Keras: .*factor"),
    ],
)
def test_what_is_wrong_is_refused_in_one_sentence(make_spec: MakeSpec, entry: dict[str, Any], message: str) -> None:
    spec = make_spec().model_copy(update={"callbacks": (Named.model_validate(entry),)})
    with pytest.raises(InvalidInput, match=message) as refused:
        make_callbacks(spec, None)
    assert "\n" not in str(refused.value)


def test_a_users_function_that_fails_shows_their_lines(mine: Callable[..., list[Any]]) -> None:
    with pytest.raises(UserFailure, match="mine:fails failed: ValueError: my own mistake") as failed:
        mine({"name": "mine:fails"})
    assert 'raise ValueError("my own mistake")' in failed.value.user_traceback
    with pytest.raises(UserFailure, match=r"mine:make failed: TypeError: .*unknown"):
        mine({"name": "mine:make", "unknown": 1})
    with pytest.raises(UserFailure, match=r"mine:nothing must return a keras.callbacks.Callback, but it returned NoneType"):
        mine({"name": "mine:nothing"})


def test_batches_are_observed_only_where_a_callback_asks_for_them(mine: Callable[..., list[Any]]) -> None:
    assert not observes_batches([])
    assert not observes_batches(mine({"name": "mine:make"}, {"name": "EarlyStopping"}, {"name": "CSVLogger", "filename": "x"}))
    assert observes_batches(mine({"name": "mine:make"}, {"name": "mine:batches"}))
    assert observes_batches([keras.callbacks.TerminateOnNaN()])


def started(make: Callable[[], keras.callbacks.Callback]) -> keras.callbacks.Callback:
    callback = make()
    callback.set_model(SimpleNamespace(stop_training=False, optimizer=keras.optimizers.SGD(0.5)))
    callback.on_train_begin()
    return callback


@pytest.mark.parametrize(("monitor", "values"), [("val_loss", [3.0, 2.0, 1.0]), ("val_accuracy", [0.1, 0.2, 0.3])])
def test_the_direction_of_an_improvement_follows_from_the_metrics_name(
    make_spec: MakeSpec, monitor: str, values: list[float]
) -> None:
    entry = {"name": "EarlyStopping", "monitor": monitor, "patience": 0}
    for rows, stops in ((values, False), (values[::-1], True)):
        callback = started(lambda: make_callbacks(make_spec(callbacks=[entry]), None)[0])
        for epoch, value in enumerate(rows):
            callback.on_epoch_end(epoch, {monitor: value})
        assert callback.model.stop_training is stops
