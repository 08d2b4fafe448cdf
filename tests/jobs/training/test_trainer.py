"""Runs in this process, from their claim to their end: which weights a run ends with, and what it says of them."""

import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from markupsafe import escape
from PIL import Image

from jobs.artifacts.checkpoints import CheckpointStore, Snapshot
from jobs.inference.export_check import Examiner
from jobs.inference.finished_run import finished_run
from jobs.inference.predicting import predict
from jobs.reports.facts import gather
from jobs.reports.page import render
from jobs.sweeps.group_trial import GroupTrial
from jobs.sweeps.trial_run import TrialRun
from jobs.training import ring
from jobs.training.early_stopping import score_of
from jobs.worker import process as worker
from jobs.worker_groups.in_process import InProcess
from service import runs
from service.datasets.catalogue import embedded_arrays
from service.datasets.importer import import_dataset
from service.records.first_weights import find_weights
from service.records.run_record import RunRecord
from service.settings import Settings
from service.specs.parts import CheckpointPolicy
from service.specs.train import TrainSpec
from service.storage.base import Store

RUN: dict[str, Any] = {
    "model": "dense",
    "model_params": {"hidden": [6]},
    "dataset": "digits",
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "epochs": 3,
    "batch": 64,
    "training_examples": 320,
    "evaluate": {"validation": 0.2},
}
# 5 steps an epoch: no checkpoint falls on an evaluation but the last.
BEST: dict[str, Any] = {
    "optimizer": {"name": "sgd", "learning_rate": {"name": "piecewise", "boundaries": [10], "values": [0.1, 30.0]}},
    "checkpoint": {"every_steps": 4, "keep_last": 1},
    "early_stopping": {"restore_best": True, "patience": 9},
}
Make = Callable[..., TrialRun]


@pytest.fixture
def make_run(local_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Claims a run with the keys of a spec; this process keeps its own output, and its threads, which other tests have used."""
    monkeypatch.setattr(worker, "capture_output", lambda file: (file.parent.mkdir(parents=True, exist_ok=True), file.touch()))
    monkeypatch.setattr(ring, "limit_threads", lambda cpus: None)
    settings = Settings.load(store=local_store.url)

    def make(run_id: str, **keys: Any) -> TrialRun:
        record = RunRecord(local_store, run_id)
        record.claim(TrainSpec.model_validate({**RUN, **keys}))
        return TrialRun(record, "a-sweep", settings, str(tmp_path))

    yield make
    keras.mixed_precision.set_dtype_policy("float32")


def trained(run: TrialRun) -> RunRecord:
    assert run.drive(lambda *_: InProcess()) is None
    assert run.record.state().state == "succeeded", run.record.state().error
    return run.record


def checkpoint(record: RunRecord, step: int | None = None) -> Snapshot:
    kept = CheckpointStore(record, CheckpointPolicy())
    snapshot = kept.load_newest(lambda step, why: None) if step is None else kept.load(step)
    assert snapshot is not None
    return snapshot


def weights_of(record: RunRecord, folder: Path) -> list[np.ndarray]:
    """Those of the run's model, as export and predict have them."""
    return [np.asarray(value) for value in finished_run(record, "to look at").model(folder).get_weights()]


def ordered(tensors: dict[str, Any], end: str = "") -> list[np.ndarray]:
    """Arrays in the order of the variables, without the states of random generators."""
    return [np.asarray(tensors[name]) for name in sorted(tensors) if name.endswith(end) and "seed" not in name]


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    return all((a == b).all() for a, b in zip(ours, theirs, strict=True))


def assert_ends_with_best(record: RunRecord) -> int:
    evaluated = [row for row in record.metric_rows() if "val_loss" in row]
    best = min(evaluated, key=lambda row: row["val_loss"])
    assert best["step"] < evaluated[-1]["step"]
    told = {name: value for name, value in record.state().metrics.items() if name.startswith("val_")}
    assert told == {name: value for name, value in best.items() if name.startswith("val_")}
    assert [event.step for event in record.events() if event.event == "restored best"] == [best["step"]]
    return int(best["step"])


def test_the_best_is_kept_though_no_checkpoint_was_due_and_its_metrics_are_reported(make_run: Make, tmp_path: Path) -> None:
    record = trained(make_run("best", **BEST))
    step = assert_ends_with_best(record)
    assert step % 4
    assert same(weights_of(record, tmp_path), ordered(checkpoint(record, step).model))


def test_so_it_is_for_runs_that_train_together(make_run: Make) -> None:
    rates = ((0.1, 30.0), (0.05, 20.0))
    stepped = [{"name": "piecewise", "boundaries": [10], "values": list(values)} for values in rates]
    runs = [make_run(f"m-{i}", **{**BEST, "optimizer": {"name": "sgd", "learning_rate": each}}) for i, each in enumerate(stepped)]
    assert list(GroupTrial(runs).reports())[-1]["done"]
    for run in runs:
        assert_ends_with_best(run.record)


AVERAGED: dict[str, Any] = {"name": "sgd", "learning_rate": 0.2, "use_ema": True, "ema_momentum": 0.9}


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_run_that_averages_its_weights_ends_with_the_averages(
    make_run: Make, local_store: Store, tmp_path: Path, precision: str
) -> None:
    record = trained(make_run("averaged", optimizer=AVERAGED, precision=precision))
    snapshot = checkpoint(record)
    averages = ordered(snapshot.optimizer, "average")
    assert same(averages, ordered(snapshot.averaged))
    assert not same(averages, ordered(snapshot.model))
    assert same(weights_of(record, tmp_path), averages)
    local_store.delete(record.paths.model)
    assert same(weights_of(record, tmp_path), averages)
    assert find_weights(local_store, "averaged").key.endswith("averaged.safetensors")


def test_the_best_averages_are_what_a_run_ends_with(make_run: Make, tmp_path: Path) -> None:
    record = trained(make_run("best", **{**BEST, "optimizer": {**BEST["optimizer"], "use_ema": True, "ema_momentum": 0.5}}))
    best = checkpoint(record, assert_ends_with_best(record))
    assert same(weights_of(record, tmp_path), ordered(best.averaged))


@pytest.fixture
def own_validation(local_store: Store, tmp_path: Path) -> None:
    """The dataset `with`, whose validation split is its test split, and `without`, the same but for that split."""
    random = np.random.default_rng(0)
    arrays = {f"x_{split}": random.random((rows, 6), np.float32) for split, rows in (("train", 64), ("test", 21))}
    arrays |= {f"y_{name[2:]}": (array.sum(axis=1) > 3).astype(np.int64) for name, array in arrays.items()}
    np.savez(tmp_path / "without.npz", **arrays)
    np.savez(tmp_path / "with.npz", **arrays, x_val=arrays["x_test"], y_val=arrays["y_test"])
    for name in ("with", "without"):
        import_dataset(local_store, name, str(tmp_path / f"{name}.npz"), "npz")


def test_a_datasets_own_validation_split_is_judged_and_no_training_example_held_out(make_run: Make, own_validation: None) -> None:
    keys: dict[str, Any] = {"training_examples": None, "batch": 16}
    ours = trained(make_run("with", dataset="with", **keys))
    theirs = trained(make_run("without", dataset="without", **keys, evaluate={"validation": 0.0}))
    metrics = ours.state().metrics
    assert metrics["val_loss"] == metrics["test_loss"] == theirs.state().metrics["test_loss"]
    assert [row["loss"] for row in ours.metric_rows()] == [row["loss"] for row in theirs.metric_rows()]
    assert "val_loss" not in trained(make_run("off", dataset="with", **keys, evaluate={"validation": 0.0})).state().metrics
    together = [make_run(f"together-{seed}", dataset="with", seed=seed, **keys) for seed in (0, 1)]
    assert list(GroupTrial(together).reports())
    for run in together:
        found = run.record.state().metrics
        assert found["val_loss"] == pytest.approx(found["test_loss"], rel=1e-6)


def test_examples_are_weighted_by_class_and_column_and_the_model_gets_no_weights(
    make_run: Make, local_store: Store, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    x = random.random((80, 6), np.float32)
    arrays = {"x_train": x, "y_train": (x.sum(axis=1) > 3.5).astype(np.int64), "x_test": x[:20], "y_test": np.arange(20) % 2}
    # Without the examples of weight 0: wrong labels, which would be learned.
    arrays["sample_weight_train"] = np.where(np.arange(80) % 4, 2.0, 0.0)
    arrays["y_train"][::4] = 1 - arrays["y_train"][::4]
    np.savez(tmp_path / "w.npz", **arrays)
    manifest = import_dataset(local_store, "w", str(tmp_path / "w.npz"), "npz")
    assert manifest.notes == ("sample_weight is 1 for all examples of test, which have none",)
    keys = {"training_examples": None, "batch": 16, "dataset": "w", "epochs": 1}
    more = {"metrics": ["macro_f1", "auc"], "early_stopping": {"metric": "val_auc"}}
    run = make_run("w", **keys, **more, sample_weight="sample_weight", class_weight="balanced")
    record = trained(run)
    metrics = record.state().metrics
    assert {"val_macro_f1", "val_auc", "test_macro_f1", "test_auc"} <= set(metrics)
    assert score_of(record.metric_rows()[-1], record.spec().early_stopping) == -metrics["val_auc"]
    counts = np.array(gather(record).model["counts"]["by_class"])
    assert [feature.name for feature in finished_run(record, "to look at").dataset.features] == ["x"]
    (said,) = (event.message for event in record.events() if event.event == "weighted")
    assert said in str(unescape(render(gather(record))))
    assert counts.sum() == 80
    # What it says are the weights of those that it learned from.
    first, second = (float(found) for found in re.search(r"by its class: 0 ([\d.]+), 1 ([\d.]+)", said).groups())  # type: ignore[union-attr]
    assert 1 / first + 1 / second == pytest.approx(2, rel=1e-3)
    assert first < 1 < second
    assert weights_of(record, tmp_path)[0].shape == (6, 6)


def test_what_is_said_of_a_users_model_stands_once_in_the_run_and_its_page(
    make_run: Make, user_folder: Path, tmp_path: Path
) -> None:
    source = "import keras\ndef build(shape, classes):\n    layers = [keras.layers.Flatten(), keras.layers.Dense(classes, 'softmax')]\n"
    (tmp_path / "soft_nets.py").write_text(f"{source}    return keras.Sequential([keras.Input(shape), *layers])\n")
    record = trained(make_run("soft", model="soft_nets:build", model_params={}, epochs=1))
    (said,) = runs.show(record.store, "soft").remarks
    assert said.startswith("The model 'soft_nets:build' ends with a softmax (layer 'dense")
    assert [event.message for event in record.events() if event.event == "remark"] == [said]
    assert str(escape(said)) in render(gather(record))


def test_a_gpu_that_tensorflow_does_not_see_is_said(make_run: Make) -> None:
    said = {name: [event.message for event in trained(run).events() if event.event == "no GPU"] for name, run in (
        ("asked", make_run("asked", epochs=1, worker={"gpus": 1})), ("not-asked", make_run("not-asked", epochs=1))
    )}  # fmt: skip
    assert said["not-asked"] == []
    (sentence,) = said["asked"]
    assert sentence is not None and sentence.startswith("each worker was given 1 GPUs and TensorFlow sees none")


def test_stored_values_are_handed_to_a_model_that_scales_by_itself(
    make_run: Make, user_folder: Path, tmp_path: Path, local_store: Store
) -> None:
    (tmp_path / "scaling_nets.py").write_text(
        "import keras\ndef build(shape, classes, own):\n"
        "    first = [keras.layers.Rescaling(1 / 16)] if own else []\n"
        "    layers = [keras.Input(shape), *first, keras.layers.Flatten(), keras.layers.Dense(classes)]\n"
        "    return keras.Sequential(layers)\n"
    )
    keys = {"model": "scaling_nets:build", "epochs": 1}
    divided = trained(make_run("divided", **keys, model_params={"own": False}))
    stored = trained(make_run("stored", **keys, model_params={"own": True}, scale=False))
    twice = trained(make_run("twice", **keys, model_params={"own": True}))
    assert stored.metric_rows() and [row["loss"] for row in stored.metric_rows()] == [
        row["loss"] for row in divided.metric_rows()
    ]
    assert stored.state().metrics["test_loss"] == divided.state().metrics["test_loss"] != twice.state().metrics["test_loss"]
    (said,) = runs.show(local_store, "twice").remarks
    assert "(layer 'rescaling'), but gets image as 0 to 1 already" in said and str(escape(said)) in render(gather(twice))
    assert not runs.show(local_store, "stored").remarks and not runs.show(local_store, "divided").remarks
    # What was kept is asked in the same way.
    images = embedded_arrays("digits")["test"]["image"][:5]
    np.savez(tmp_path / "a.npz", x=images)
    Image.fromarray((images[0, ..., 0] * 15).astype(np.uint8)).save(tmp_path / "a.png")
    ours, theirs = (
        predict(finished_run(record, "to predict with"), [tmp_path / "a.npz", tmp_path / "a.png"]).document()["predictions"]
        for record in (stored, divided)
    )
    for one, other in zip(ours, theirs, strict=True):
        assert (one["class"], one["notes"]) == (other["class"], other["notes"])
        assert one["probability"] == pytest.approx(other["probability"], rel=1e-5)
    run = finished_run(stored, "to export")
    examined = Examiner(run, run.model(tmp_path), Settings.load(store=local_store.url))
    assert examined.metrics["test_accuracy"] == pytest.approx(stored.state().metrics["test_accuracy"])
