"""A finished run's model as files for others."""

import inspect
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from support.finished_runs import IMAGES, NETS, MakeSpec, finished, keep_checkpoint, keep_file, served, trained

from jobs.export import main
from jobs.inference.exporting import export
from service.errors import InvalidInput, UserFailure
from service.records.run_record import RunRecord
from service.settings import Settings

pytestmark = pytest.mark.usefixtures("in_the_users_folder")


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


def test_the_runs_curves_come_along(record: RunRecord, make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec(model_params={"hidden": []})
    finished(record, spec, tmp_path)
    keep_file(record, trained(spec, tmp_path), tmp_path)
    record.store.write(f"{record.paths.tensorboard(record.label(1))}events.out", b"curves")
    export(record, tmp_path / "new", ["keras"])
    assert (tmp_path / "new" / "tensorboard" / "events.out").read_bytes() == b"curves"
