"""A finished run's model as files for others."""

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from jobs.artifacts.checkpoints import CheckpointStore, Snapshot
from jobs.datasets.bits import bit_columns
from jobs.export import _tell, main
from jobs.inference.exporting import export
from jobs.inference.formats import TFLite
from jobs.models.registry import build_model
from jobs.predict import main as predict_main
from jobs.training.variables import copy_model
from service.datasets.catalogue import embedded_arrays
from service.errors import Damaged, InvalidInput, UserFailure
from service.records.run_record import RunRecord
from service.settings import Settings
from service.specs.generated import BitSequences
from service.specs.train import TrainSpec
from service.storage.local import LocalStore

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


@pytest.fixture(autouse=True)
def _in_the_users_folder(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(user_folder)


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
    checkpoints = CheckpointStore(record, spec.checkpoint, record.label(1))
    checkpoints.adopt(step)
    checkpoints.save(Snapshot(step, 1, copy_model(model), {"00000 a": np.zeros(1)}, [], {}, score=score))


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


@pytest.mark.parametrize("from_checkpoint", [False, True])
def test_a_users_function_that_makes_another_model_by_now_is_told(
    record: RunRecord, make_spec: MakeSpec, user_folder: Path, tmp_path: Path, from_checkpoint: bool
) -> None:
    (user_folder / "new_nets.py").write_text(inspect.cleandoc(NETS))
    spec = make_spec(model="new_nets:build")
    finished(record, spec, user_folder)
    other = build_model(make_spec(model_params={"hidden": [5]}), (8, 8, 1), 10, None)
    if from_checkpoint:
        keep_checkpoint(record, spec, other, 7)
    else:
        keep_file(record, other, tmp_path)
    with pytest.raises(UserFailure, match="trained" if not from_checkpoint else "the model changed since the run began"):
        export(record, tmp_path / "new")
    assert not (tmp_path / "new").exists()


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


def evaluated(record: RunRecord, model: keras.Model) -> float:
    """The model's accuracy on the digits' test split, and the note of it that the run's end leaves."""
    test = embedded_arrays("digits")["test"]
    logits = np.asarray(model(test["image"].astype(np.float32) / 16))
    accuracy = float(np.mean(logits.argmax(axis=1) == test["label"]))
    record.write_state({**record.state(), "metrics": {"test_accuracy": accuracy}})
    return accuracy


@pytest.fixture
def checked(tmp_path: Path) -> Settings:
    return Settings.load(cache=tmp_path / "cache")


def test_every_form_gives_the_runs_own_accuracy(
    record: RunRecord, make_spec: MakeSpec, tmp_path: Path, checked: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = make_spec(model="cnn")
    finished(record, spec, tmp_path)
    model = trained(spec, tmp_path)
    keep_file(record, model, tmp_path)
    accuracy = evaluated(record, model)
    done = export(record, tmp_path / "new", ["tflite", "keras", "savedmodel"], checked)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["model.keras", "model.tflite", "saved_model"]
    assert done["examples"] == done["test_examples"] == 360
    for name in ("keras", "savedmodel", "tflite"):
        assert done["formats"][name]["metrics"]["test_accuracy"] == pytest.approx(accuracy, abs=1.5 / 360)
        assert Path(done["formats"][name]["path"]).exists()
    interpreter = Interpreter(model_path=str(tmp_path / "new" / "model.tflite"))
    (logits,) = interpreter.get_signature_runner("serving_default")(
        **{interpreter.get_signature_list()["serving_default"]["inputs"][0]: IMAGES}
    ).values()
    np.testing.assert_allclose(logits, np.asarray(model(IMAGES)), rtol=1e-3, atol=1e-3)


def test_only_what_was_asked_for_is_written(record: RunRecord, make_spec: MakeSpec, tmp_path: Path, checked: Settings) -> None:
    spec = make_spec(model_params={"hidden": [5]})
    finished(record, spec, tmp_path)
    keep_file(record, trained(spec, tmp_path), tmp_path)
    export(record, tmp_path / "lite", ["tflite", "tflite"], checked)
    assert [path.name for path in (tmp_path / "lite").iterdir()] == ["model.tflite"]
    with pytest.raises(InvalidInput, match="exists already"):
        export(record, tmp_path / "lite", ["keras", "tflite"], checked)
    export(record, tmp_path / "lite", ["keras"], checked)
    assert sorted(path.name for path in (tmp_path / "lite").iterdir()) == ["model.keras", "model.tflite"]


def test_without_litert_a_tflite_file_is_written_and_said_to_be_unchecked(
    record: RunRecord,
    make_spec: MakeSpec,
    tmp_path: Path,
    checked: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    spec = make_spec(model_params={"hidden": [5]})
    finished(record, spec, tmp_path)
    keep_file(record, trained(spec, tmp_path), tmp_path)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = export(record, tmp_path / "lite", ["tflite", "keras"], checked)
    assert (tmp_path / "lite" / "model.tflite").stat().st_size > 1000
    assert done["formats"]["tflite"]["metrics"] is None and done["formats"]["keras"]["metrics"]
    _tell(done)
    assert "tflite (not checked: LiteRT, which runs TFLite files, is not installed here" in capfd.readouterr().err


def test_the_runs_curves_come_along(record: RunRecord, make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec(model_params={"hidden": []})
    finished(record, spec, tmp_path)
    keep_file(record, trained(spec, tmp_path), tmp_path)
    record.store.write(f"{record.paths.tensorboard(record.label(1))}events.out", b"curves")
    export(record, tmp_path / "new", ["keras"])
    assert (tmp_path / "new" / "tensorboard" / "events.out").read_bytes() == b"curves"


def test_a_form_that_answers_otherwise_is_an_error_and_leaves_nothing(
    record: RunRecord, make_spec: MakeSpec, tmp_path: Path, checked: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(model_params={"hidden": [5]})
    finished(record, spec, tmp_path)
    keep_file(record, trained(spec, tmp_path), tmp_path)

    def write(self: TFLite, model: keras.Model, folder: Path) -> None:
        for variable in model.trainable_variables[:2]:
            variable.assign(-variable.value)
        whole(self, model, folder)
        for variable in model.trainable_variables[:2]:
            variable.assign(-variable.value)

    whole = TFLite.write
    monkeypatch.setattr(TFLite, "write", write)
    with pytest.raises(UserFailure, match=r"exported tflite model gives test_accuracy 0\.\d+ where .* of 360 examples otherwise"):
        export(record, tmp_path / "new", ["keras", "tflite"], checked)
    assert not (tmp_path / "new").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".delayline")]
    export(record, tmp_path / "new", ["keras", "tflite"], None)


def test_a_model_that_is_not_the_one_that_was_tested_is_told(
    record: RunRecord, make_spec: MakeSpec, tmp_path: Path, checked: Settings
) -> None:
    spec = make_spec(model_params={"hidden": [5]})
    finished(record, spec, tmp_path)
    keep_file(record, trained(spec, tmp_path), tmp_path)
    record.write_state({**record.state(), "metrics": {"test_accuracy": 0.9917}})
    with pytest.raises(Damaged, match=r"the run ended with 0\.9917"):
        export(record, tmp_path / "new", ["keras"], checked)
    assert not (tmp_path / "new").exists()


def test_a_recurrent_network_cannot_become_tflite_and_says_so_in_one_sentence(
    record: RunRecord,
    make_spec: MakeSpec,
    user_folder: Path,
    tmp_path: Path,
    checked: Settings,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (user_folder / "lstm_nets.py").write_text(
        "import keras\n"
        "def build(shape, classes):\n"
        "    layers = [keras.layers.Reshape(shape[:2]), keras.layers.LSTM(4), keras.layers.Dense(classes)]\n"
        "    return keras.Sequential([keras.Input(shape), *layers])\n"
    )
    spec = make_spec(model="lstm_nets:build")
    finished(record, spec, user_folder)
    keep_file(record, trained(spec, user_folder), tmp_path)
    arguments = ["--run", "a-run", "--to", str(tmp_path / "new"), "--store", record.store.url]
    assert main([*arguments, "--format", "tflite"]) == 3
    out, err = capfd.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert "cannot become a TFLite file: it has no tf.TensorList" in line
    assert not (tmp_path / "new").exists()
    assert main([*arguments, "--json"]) == 0
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert sorted(document["formats"]) == ["keras", "savedmodel"] and document["examples"] == 360
    assert "savedmodel: test_accuracy" in err and "as the run's own" in err


def test_a_users_own_layers_are_checked_in_their_file(
    record: RunRecord, make_spec: MakeSpec, user_folder: Path, tmp_path: Path, checked: Settings
) -> None:
    (user_folder / "checked_nets.py").write_text(inspect.cleandoc(NETS))
    spec = make_spec(model="checked_nets:build")
    finished(record, spec, user_folder)
    model = trained(spec, user_folder)
    keep_checkpoint(record, spec, model, 7)
    evaluated(record, model)
    done = export(record, tmp_path / "new", ["keras", "savedmodel", "tflite"], checked)
    assert len({str(each["metrics"]) for each in done["formats"].values()}) == 1


@pytest.mark.parametrize("name", ["simple-rnn", "lstm", "gru", "elman", "jordan"])
@pytest.mark.parametrize("from_checkpoint", [False, True])
def test_recurrent_models_are_exported_and_checked_on_generated_sequences(
    record: RunRecord, tmp_path: Path, checked: Settings, name: str, from_checkpoint: bool
) -> None:
    params = {"delay": 2, "length": 6, "sequences": 30}
    spec = TrainSpec(model=name, dataset="bits", task="bit-memory", dataset_params=params, epochs=1, seed=5)
    assert record.claim(spec, {"folder": str(tmp_path), "dataset_version": "philox-1"})
    model = build_model(spec, (6, 1), 1, None, True)
    test = bit_columns(BitSequences(2, 6, 30), 5, "test")
    accuracy = float(np.mean((np.asarray(model(test["bits"]))[:, 2:, 0] > 0) == (test["label"][:, 2:] > 0)))
    record.write_state({"state": "succeeded", "attempts": [], "error": None, "metrics": {"test_accuracy": accuracy}})
    if from_checkpoint:
        keep_checkpoint(record, spec, model, 7)
    else:
        keep_file(record, model, tmp_path)
    done = export(record, tmp_path / "new", settings=checked)
    assert done["examples"] == 30
    for each in done["formats"].values():
        assert each["metrics"]["test_accuracy"] == pytest.approx(accuracy, abs=1e-6)


def test_a_users_module_is_imported_from_the_current_folder_or_from_one_that_is_trusted(
    record: RunRecord,
    make_spec: MakeSpec,
    user_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marker = tmp_path / "marker"
    (user_folder / "far_nets.py").write_text(f"open({str(marker)!r}, 'w').close()\n{inspect.cleandoc(NETS)}")
    spec = make_spec(model="far_nets:build")
    finished(record, spec, user_folder)
    keep_file(record, trained(spec, user_folder), tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(user_folder)])
    del sys.modules["far_nets"]
    marker.unlink()
    np.savez(tmp_path / "a.npz", x=np.zeros((1, 8, 8), np.uint8))
    common = ["--run", "a-run", "--store", record.store.url]
    for verb in ([*common, "--to", str(tmp_path / "new"), "--no-check"], [*common, str(tmp_path / "a.npz")]):
        call = main if "--to" in verb else predict_main
        assert call(verb) == 2
        said = capfd.readouterr().err
        assert len(said.splitlines()) == 1 and "'far_nets'" in said
        assert str(tmp_path / "elsewhere") in said and str(user_folder) in said and "--trust-folder" in said
        assert not marker.exists() and list((tmp_path / "elsewhere").iterdir()) == []
        assert call([*verb[:4], "--trust-folder", *verb[4:]]) == 0, capfd.readouterr().err
        assert marker.exists()
        capfd.readouterr()
        monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(user_folder)])
        del sys.modules["far_nets"]
        marker.unlink()
