"""The command: what it prints, its exit codes, and whose modules it imports."""

import inspect
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from support.finished_runs import NETS, MakeSpec, finished, keep_file, trained

from jobs.export import main
from jobs.predict import main as predict_main
from service.records.run_record import RunRecord
from service.storage.local import LocalStore


@pytest.fixture
def record(tmp_path: Path, user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> RunRecord:
    monkeypatch.chdir(user_folder)
    return RunRecord(LocalStore(tmp_path / "store"), "a-run")


def test_without_litert_a_tflite_file_is_written_and_said_to_be_unchecked(
    record: RunRecord, make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = make_spec(model_params={"hidden": [5]})
    finished(record, spec, tmp_path)
    keep_file(record, trained(spec, tmp_path), tmp_path)
    # Neither imported nor found.
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    arguments = ["--run", "a-run", "--to", str(tmp_path / "lite"), "--store", record.store.url, "--json"]
    assert main([*arguments, "--format", "tflite", "--format", "keras"]) == 0
    out, err = capfd.readouterr()
    done = json.loads(out)
    assert (tmp_path / "lite" / "model.tflite").stat().st_size > 1000
    assert done["formats"]["tflite"]["metrics"] is None and done["formats"]["keras"]["metrics"]
    assert "tflite (not checked: LiteRT, which runs TFLite files, is not installed here" in err


def test_a_recurrent_network_cannot_become_tflite_and_says_so_in_one_sentence(
    record: RunRecord,
    make_spec: MakeSpec,
    user_folder: Path,
    tmp_path: Path,
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
