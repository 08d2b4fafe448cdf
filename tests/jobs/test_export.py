"""A finished run's model as files for others."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from jobs.checkpoints import CheckpointStore, Snapshot
from jobs.export import export, main
from jobs.models import build_model
from jobs.variables import copy_model
from service.errors import InvalidInput, UserFailure
from service.specs import TrainSpec
from service.storage.local import LocalStore
from service.storage.records import RunRecord

MakeSpec = Callable[..., TrainSpec]
IMAGES = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)

NETS = """
import keras

class Scale(keras.layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x):
        return x * self.factor

class Odd(Scale):
    def __init__(self, needed):
        super().__init__()

def build(shape, classes, odd=False):
    first = Odd(object()) if odd else Scale()
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), first, keras.layers.Dense(classes)])
"""


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return RunRecord(LocalStore(tmp_path / "store"), "a-run")


def finished(record: RunRecord, spec: TrainSpec, folder: Path, state: str = "succeeded") -> None:
    assert record.claim(spec, {"folder": str(folder), "dataset_version": "uci-1998"})
    record.write_state({"state": state, "attempts": [], "error": None})


def trained(spec: TrainSpec, folder: Path, shift: float = 1.0) -> keras.Model:
    model = build_model(spec, (8, 8, 1), 10, str(folder))
    for variable in model.trainable_variables:
        variable.assign(variable.value + shift * np.random.default_rng(1).random(variable.shape))
    return model


def keep_file(record: RunRecord, model: keras.Model, folder: Path) -> None:
    model.save(folder / "kept.keras")
    record.store.upload(folder / "kept.keras", record.paths.model)


def keep_checkpoint(record: RunRecord, spec: TrainSpec, model: keras.Model, step: int, score: float | None = None) -> None:
    checkpoints = CheckpointStore(record.store, record.paths, spec.checkpoint)
    checkpoints.adopt(step)
    checkpoints.save(Snapshot(step, 1, copy_model(model), {"00000 a": np.zeros(1)}, [], {}, score))


def served(folder: Path) -> np.ndarray:
    model = tf.saved_model.load(str(folder / "saved_model"))
    made: np.ndarray = model.serve(IMAGES).numpy()
    return made


def test_both_forms_give_the_runs_logits(record: RunRecord, make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec(model_params={"hidden": [5]})
    finished(record, spec, tmp_path)
    model = trained(spec, tmp_path)
    keep_file(record, model, tmp_path)
    export(record, tmp_path / "new" / "deep")
    wanted = np.asarray(model(IMAGES))
    loaded = keras.saving.load_model(tmp_path / "new" / "deep" / "model.keras")
    np.testing.assert_array_equal(np.asarray(loaded(IMAGES)), wanted)
    np.testing.assert_allclose(served(tmp_path / "new" / "deep"), wanted, rtol=1e-5)
    assert sorted(path.name for path in (tmp_path / "new" / "deep").iterdir()) == ["model.keras", "saved_model"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["deep"]


@pytest.mark.parametrize("from_checkpoint", [False, True])
def test_a_model_of_the_users_own_is_built_again_by_their_function(
    record: RunRecord, make_spec: MakeSpec, user_folder: Path, tmp_path: Path, from_checkpoint: bool
) -> None:
    (user_folder / "own_nets.py").write_text(inspect.cleandoc(NETS))
    spec = make_spec(model="own_nets:build")
    finished(record, spec, user_folder)
    model = trained(spec, user_folder)
    if from_checkpoint:
        keep_checkpoint(record, spec, model, 7)
    else:
        keep_file(record, model, tmp_path)
    export(record, tmp_path / "new")
    np.testing.assert_allclose(served(tmp_path / "new"), np.asarray(model(IMAGES)), rtol=1e-5)


@pytest.mark.parametrize(("restore_best", "step"), [(True, 5), (False, 9)])
def test_without_a_file_the_checkpoint_that_the_run_ended_with_is_taken(
    record: RunRecord, make_spec: MakeSpec, tmp_path: Path, restore_best: bool, step: int
) -> None:
    spec = make_spec(model_params={"hidden": []}, early_stopping={"restore_best": restore_best})
    finished(record, spec, tmp_path)
    models = {5: trained(spec, tmp_path, 5.0), 9: trained(spec, tmp_path, 9.0)}
    keep_checkpoint(record, spec, models[5], 5, 0.25)
    keep_checkpoint(record, spec, models[9], 9, 0.5)
    export(record, tmp_path / "new")
    np.testing.assert_allclose(served(tmp_path / "new"), np.asarray(models[step](IMAGES)), rtol=1e-4)


def test_a_layer_that_keras_cannot_save_is_the_users_and_nothing_is_left(
    record: RunRecord, make_spec: MakeSpec, user_folder: Path, tmp_path: Path
) -> None:
    (user_folder / "odd_nets.py").write_text(inspect.cleandoc(NETS))
    spec = make_spec(model="odd_nets:build", model_params={"odd": True})
    finished(record, spec, user_folder)
    keep_checkpoint(record, spec, trained(spec, user_folder), 7)
    with pytest.raises(UserFailure, match=r"Keras cannot save this model as a file: .*get_config") as failed:
        export(record, tmp_path / "new" / "deep")
    assert "\n" not in str(failed.value)
    assert not (tmp_path / "new" / "deep").exists()
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("state", ["running", "failed", "cancelled", "queued"])
def test_only_a_run_that_succeeded_is_exported(record: RunRecord, make_spec: MakeSpec, tmp_path: Path, state: str) -> None:
    finished(record, make_spec(), tmp_path, state)
    with pytest.raises(InvalidInput, match=f"'a-run' is {state}: only a run that succeeded"):
        export(record, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_run_without_model_and_checkpoint_is_refused(record: RunRecord, make_spec: MakeSpec, tmp_path: Path) -> None:
    finished(record, make_spec(), tmp_path)
    with pytest.raises(InvalidInput, match="neither a model nor a checkpoint"):
        export(record, tmp_path / "new")


@pytest.mark.parametrize("standing", ["model.keras", "saved_model", ""])
def test_nothing_that_stands_there_is_replaced(
    record: RunRecord, make_spec: MakeSpec, tmp_path: Path, standing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(record, make_spec(), tmp_path)
    target = tmp_path / "new"
    if standing:
        target.mkdir()
        (target / standing).write_text("mine")
    else:
        target.write_text("mine")
    with pytest.raises(InvalidInput, match="exists already: give another folder, or remove it"):
        export(record, target)
    assert (target / standing if standing else target).read_text() == "mine"
    arguments: list[Any] = ["--run", "a-run", "--to", str(target), "--store", record.store.url]
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused(record: RunRecord, make_spec: MakeSpec, tmp_path: Path) -> None:
    finished(record, make_spec(), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot be written"):
        export(record, tmp_path / "file" / "below")
