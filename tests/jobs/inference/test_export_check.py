"""Whether exported files give what the run's own model gives on the test split."""

import inspect
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from support.finished_runs import IMAGES, NETS, MakeSpec, evaluated, finished, keep_checkpoint, keep_file, trained

from jobs.datasets.bits import bit_columns
from jobs.inference.exporting import export
from jobs.inference.formats import TFLite
from jobs.models.registry import build_model
from service.errors import Damaged, UserFailure
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.records.submission_schemas import Origin
from service.settings import Settings
from service.specs.generated import BitSequences
from service.specs.train import TrainSpec

pytestmark = pytest.mark.usefixtures("in_the_users_folder")


def test_every_form_gives_the_runs_own_accuracy(
    record: RunRecord, make_spec: MakeSpec, tmp_path: Path, checked: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = make_spec(model="cnn")
    finished(record, spec, tmp_path)
    model = trained(spec, tmp_path)
    keep_file(record, model, tmp_path)
    accuracy = evaluated(record, model)
    done = export(record, tmp_path / "new", ["tflite", "keras", "savedmodel"], checked).document()
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


def test_a_model_that_is_not_the_one_that_was_tested_is_damaged(
    record: RunRecord, make_spec: MakeSpec, tmp_path: Path, checked: Settings
) -> None:
    spec = make_spec(model_params={"hidden": [5]})
    finished(record, spec, tmp_path)
    keep_file(record, trained(spec, tmp_path), tmp_path)
    record.write_state(record.state().changed(metrics={"test_accuracy": 0.9917}))
    with pytest.raises(Damaged, match=r"the run ended with 0\.9917"):
        export(record, tmp_path / "new", ["keras"], checked)
    assert not (tmp_path / "new").exists()


def test_a_users_own_layers_are_checked_in_their_file(
    record: RunRecord, make_spec: MakeSpec, user_folder: Path, tmp_path: Path, checked: Settings
) -> None:
    (user_folder / "checked_nets.py").write_text(inspect.cleandoc(NETS))
    spec = make_spec(model="checked_nets:build")
    finished(record, spec, user_folder)
    model = trained(spec, user_folder)
    keep_checkpoint(record, spec, model, 7)
    evaluated(record, model)
    done = export(record, tmp_path / "new", ["keras", "savedmodel", "tflite"], checked).document()
    assert len({str(each["metrics"]) for each in done["formats"].values()}) == 1


@pytest.mark.parametrize("name", ["simple-rnn", "lstm", "gru", "elman", "jordan"])
@pytest.mark.parametrize("from_checkpoint", [False, True])
def test_recurrent_models_are_exported_and_checked_on_generated_sequences(
    record: RunRecord, tmp_path: Path, checked: Settings, name: str, from_checkpoint: bool
) -> None:
    params = {"delay": 2, "length": 6, "sequences": 30}
    spec = TrainSpec(model=name, dataset="bits", task="bit-memory", dataset_params=params, epochs=1, seed=5)
    assert record.claim(spec, Origin(folder=str(tmp_path), dataset_version="philox-1"))
    model = build_model(spec, (6, 1), 1, None, True)
    test = bit_columns(BitSequences(2, 6, 30), 5, "test")
    accuracy = float(np.mean((np.asarray(model(test["bits"]))[:, 2:, 0] > 0) == (test["label"][:, 2:] > 0)))
    record.write_state(StateDocument(state="succeeded", attempts=[], error=None, metrics={"test_accuracy": accuracy}))
    if from_checkpoint:
        keep_checkpoint(record, spec, model, 7)
    else:
        keep_file(record, model, tmp_path)
    done = export(record, tmp_path / "new", settings=checked).document()
    assert done["examples"] == 30
    for each in done["formats"].values():
        assert each["metrics"]["test_accuracy"] == pytest.approx(accuracy, abs=1e-6)
