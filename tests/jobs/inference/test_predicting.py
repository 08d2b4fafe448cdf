"""What a finished run's model predicts of files."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from PIL import Image

from jobs.inference.finished_run import finished_run
from jobs.inference.predicting import predict
from jobs.models.registry import build_model
from jobs.predict import main
from service.datasets.catalogue import embedded_arrays
from service.errors import BadData, Damaged, InvalidInput, UserFailure
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.records.submission_schemas import Origin
from service.specs.train import TrainSpec
from service.storage.local import LocalStore

MakeSpec = Callable[..., TrainSpec]


@pytest.fixture
def record(tmp_path: Path, make_spec: MakeSpec) -> RunRecord:
    """A run that succeeded, with a model of random weights."""
    record = RunRecord(LocalStore(tmp_path / "store"), "a-run")
    spec = make_spec(model="dense", model_params={"hidden": [8]})
    assert record.claim(spec, Origin(folder=str(tmp_path), dataset_version="uci-1998"))
    record.write_state(StateDocument(state="succeeded", attempts=[], error=None))
    keras.utils.set_random_seed(1)
    build_model(spec, (8, 8, 1), 10, None).save(tmp_path / "model.keras")
    record.store.upload(tmp_path / "model.keras", record.paths.model)
    return record


def reference(record: RunRecord, folder: Path, images: np.ndarray) -> np.ndarray:
    """Softmax of the model's logits, by Keras itself."""
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    return np.asarray(keras.ops.softmax(model(images.astype(np.float32) / 16)))


def test_classes_and_probabilities_are_those_of_the_model(record: RunRecord, tmp_path: Path) -> None:
    images = embedded_arrays("digits")["test"]["image"]
    np.savez(tmp_path / "all.npz", x=images)
    found = predict(finished_run(record, "to predict with"), [tmp_path / "all.npz"], top=10).document()["predictions"]
    wanted = reference(record, tmp_path, images)
    assert [row["index"] for row in found] == list(range(len(images)))
    assert [int(row["class"]) for row in found] == wanted.argmax(axis=1).tolist()
    for row, chances in zip(found, wanted, strict=True):
        assert row["probability"] == row["top"][0]["probability"] == pytest.approx(chances.max(), rel=1e-4)
        assert sorted(each["class"] for each in row["top"]) == [str(number) for number in range(10)]
        assert sum(each["probability"] for each in row["top"]) == pytest.approx(1.0)


def test_a_picture_is_classified_as_the_array_that_it_shows(record: RunRecord, tmp_path: Path) -> None:
    image = embedded_arrays("digits")["test"]["image"][3]
    Image.fromarray((image[..., 0].astype(np.float32) * 255 / 16).round().astype(np.uint8)).save(tmp_path / "a.png")
    np.savez(tmp_path / "a.npz", image=image)
    picture, array = predict(finished_run(record, ""), [tmp_path / "a.png", tmp_path / "a.npz"]).document()["predictions"]
    assert (picture["class"], picture["index"], picture["notes"]) == (array["class"], None, [])
    assert picture["probability"] == pytest.approx(array["probability"], abs=0.01)
    assert len(picture["top"]) == 1


@pytest.mark.parametrize("ground", ["white", "black"])
def test_a_transparent_picture_lies_on_the_datasets_ground(record: RunRecord, tmp_path: Path, ground: str) -> None:
    stroke = np.zeros((8, 8, 4), np.uint8)
    stroke[2:6, 4] = 128, 128, 128, 255
    Image.fromarray(stroke).save(tmp_path / "a.png")
    laid = np.where(stroke[..., 3] > 0, 128, 255 if ground == "white" else 0).astype(np.uint8)
    Image.fromarray(laid).save(tmp_path / "b.png")
    run = finished_run(record, "")
    vars(run)["dataset"] = replace(run.dataset, ground=ground)
    transparent, opaque = predict(run, [tmp_path / "a.png", tmp_path / "b.png"], top=10).document()["predictions"]
    assert transparent["top"] == opaque["top"]
    assert transparent["notes"] == [f"laid over {ground}, for it is transparent", "made grey"]


def test_a_bad_file_is_an_error_before_anything_is_classified(
    record: RunRecord, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.png").write_bytes(b"none")
    monkeypatch.setattr("jobs.inference.finished_run.FinishedRun.model", lambda *_: pytest.fail("a model was loaded"))
    arguments = ["--run", "a-run", "--store", record.store.url]
    assert main([*arguments, str(tmp_path / "bad.png")]) == BadData.exit_code
    assert main([*arguments, str(tmp_path / "none.png")]) == InvalidInput.exit_code
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 2 and "bad.png" in err and "none.png" in err


def test_the_document_stands_alone_on_standard_output(
    record: RunRecord, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 8, 8), np.uint8))
    assert main(["--run", "a-run", "--store", record.store.url, "--top", "3", str(tmp_path / "a.npz")]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["run"] == "a-run" and len(document["classes"]) == 10
    assert [len(row["top"]) for row in document["predictions"]] == [3, 3]


def test_an_answer_that_is_no_number_names_its_file(record: RunRecord, tmp_path: Path) -> None:
    model = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    model.trainable_variables[-1].assign(np.full(10, np.nan))
    model.save(tmp_path / "model.keras")
    record.store.upload(tmp_path / "model.keras", record.paths.model)
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(UserFailure, match=r"a\.npz: the model's answer is not a finite number"):
        predict(finished_run(record, ""), [tmp_path / "a.npz"])


def bits_run(folder: Path, name: str) -> tuple[RunRecord, keras.Model]:
    """A run on bits that succeeded, with a model of random weights."""
    record = RunRecord(LocalStore(folder / "store"), "bits-run")
    params = {"delay": 2, "length": 6, "sequences": 10}
    spec = TrainSpec(model=name, dataset="bits", task="bit-memory", dataset_params=params, epochs=1)
    assert record.claim(spec, Origin(folder=str(folder), dataset_version="philox-1"))
    record.write_state(StateDocument(state="succeeded", attempts=[], error=None))
    model = build_model(spec, (6, 1), 1, None, True)
    model.save(folder / "model.keras")
    record.store.upload(folder / "model.keras", record.paths.model)
    return record, model


@pytest.mark.parametrize("name", ["elman", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gru", "jordan"))])
def test_the_bits_of_each_step_are_given(tmp_path: Path, name: str) -> None:
    record, model = bits_run(tmp_path, name)
    x = np.random.default_rng(0).choice([-1.0, 1.0], (3, 6, 1)).astype(np.float32)
    np.savez(tmp_path / "a.npz", bits=x)
    # In a process of its own, which has not made such a model before it opens one.
    argv = [sys.executable, "-m", "jobs.predict", "--run", "bits-run", "--store", record.store.url, str(tmp_path / "a.npz")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    logits = np.asarray(model(x))[..., 0]
    for row, wanted in zip(json.loads(done.stdout)["predictions"], logits, strict=True):
        assert row["bits"] == ".." + "".join("1" if logit > 0 else "0" for logit in wanted[2:])
        np.testing.assert_allclose(row["probabilities"], 1 / (1 + np.exp(-wanted)), rtol=1e-4)


def test_bits_may_be_written_as_0_and_1(tmp_path: Path) -> None:
    run = finished_run(bits_run(tmp_path, "gru")[0], "")
    bits = np.random.default_rng(0).integers(0, 2, (3, 6, 1)).astype(bool)
    np.savez(tmp_path / "zeros.npz", x=bits)
    np.savez(tmp_path / "signs.npz", x=np.where(bits, 1, -1))
    rows = predict(run, [tmp_path / "zeros.npz", tmp_path / "signs.npz"]).document()["predictions"]
    for zeros, signs in zip(rows[:3], rows[3:], strict=True):
        np.testing.assert_allclose(zeros["probabilities"], signs["probabilities"], rtol=1e-4)
    assert [row["notes"] for row in rows] == [["took 0 and 1 as -1 and 1"]] * 3 + [[]] * 3


def test_only_a_run_that_succeeded_predicts(record: RunRecord) -> None:
    record.write_state(StateDocument(state="failed", attempts=[], error=None))
    with pytest.raises(InvalidInput, match="is failed: only a run that succeeded has a model to predict with"):
        finished_run(record, "to predict with")


def _swollen(record: RunRecord) -> bytes:
    """The model's weights with one of zeros, which HDF5 keeps in a few bytes."""
    with zipfile.ZipFile(io.BytesIO(record.store.read(record.paths.model))) as kept:
        weights = io.BytesIO(kept.read("model.weights.h5"))
    with h5py.File(weights, "a") as file:
        names: list[str] = []
        file.visititems(lambda name, found: names.append(name) if isinstance(found, h5py.Dataset) else None)
        del file[names[0]]
        file.create_dataset(names[0], (40_000, 10_000), "f4", compression="gzip")
    return weights.getvalue()


def _repacked(record: RunRecord, **changed: bytes | None) -> bytes:
    """The model's file with other members in the place of its own."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(record.store.read(record.paths.model))) as kept,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in kept.namelist():
            data = changed.get(name.partition(".")[0], kept.read(name))
            if data is not None:
                new.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda record: b"",
        lambda record: b"no archive",
        lambda record: record.store.read(record.paths.model)[:1000],
        lambda record: _repacked(record, config=b"{"),
        lambda record: _repacked(record, config=b"[" * 100_000),
        lambda record: _repacked(
            record, config=b'{"module": "os", "class_name": "function", "config": "system", "registered_name": "function"}'
        ),
        lambda record: _repacked(record, model=None),
        lambda record: _repacked(record, model=b"no weights"),
        lambda record: _repacked(record, config=bytes(400 * 2**20)),
        lambda record: _repacked(record, model=_swollen(record)),
    ],
    ids=["empty", "none", "cut", "config", "deep", "function", "without weights", "bad weights", "bomb", "swollen weights"],
)
def test_a_models_file_that_is_none_is_an_error_in_one_sentence(
    record: RunRecord, tmp_path: Path, capfd: pytest.CaptureFixture[str], make: Callable[[RunRecord], bytes]
) -> None:
    np.savez(tmp_path / "a.npz", image=np.zeros((8, 8, 1), np.uint8))
    record.store.write(record.paths.model, make(record))
    assert main(["--run", "a-run", "--store", record.store.url, str(tmp_path / "a.npz")]) == Damaged.exit_code
    out, err = capfd.readouterr()
    assert out == "" and "runs/a-run/model.keras" in err and "delete this object" in err
    assert len(err.strip().splitlines()) == 1, err
