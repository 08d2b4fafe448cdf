"""What a run that nothing disturbs leaves behind, and that the number of workers does not change it."""

from pathlib import Path

import numpy as np
import pytest
from desk import Desk

pytestmark = pytest.mark.slow


def test_the_default_run(desk: Desk) -> None:
    done = desk.delayline("train", "--name", "first", "--json")
    assert done.code == 0, done.err
    run = done.document
    assert run["state"] == "succeeded"
    assert run["metrics"]["test_accuracy"] >= 0.97
    assert [worker["rank"] for worker in run["attempts"][-1]["workers"]] == [0, 1]
    assert "Total params" in done.err, "the model's summary is shown before the start"
    assert "epoch 20/20" in done.err
    folder = Path(desk.store_url) / "runs" / "first"
    for name in ("spec.json", "state.json", "metrics.json", "checkpoints.json", "model.keras"):
        assert (folder / name).stat().st_size, name
    assert sorted(log.parent.name[:5] + log.name for log in folder.glob("logs/*/rank-*")) == [
        "0001-rank-0.log",
        "0001-rank-1.log",
    ]
    assert list(folder.glob("tensorboard/**/events.out.tfevents.*"))
    again = desk.delayline("train", "--name", "first", "--json")
    assert again.document["finished"] == run["finished"]
    listed = desk.delayline("runs", "list", "--json").document
    assert [(row["id"], row["state"]) for row in listed] == [("first", "succeeded")]
    assert "worker 1 of 2" in desk.delayline("runs", "logs", "first", "--rank", "1").out


def test_export_gives_the_models_test_accuracy(calm: Desk, tmp_path: Path) -> None:
    import keras

    from service.datasets.catalogue import embedded_arrays

    assert calm.delayline("export", "calm", str(tmp_path / "out")).code == 0
    model = keras.saving.load_model(tmp_path / "out" / "model.keras")
    test = embedded_arrays("digits")["test"]
    logits = model.predict(test["image"] / 16.0, verbose=0)
    accuracy = float(np.mean(logits.argmax(-1) == test["label"]))
    assert accuracy == pytest.approx(calm.show("calm")["metrics"]["test_accuracy"], abs=1e-6)
    assert (tmp_path / "out" / "saved_model" / "saved_model.pb").exists()
    again = calm.delayline("export", "calm", str(tmp_path / "out"))
    assert again.code == 2
    assert "exists already" in again.err


def test_the_same_run_at_any_number_of_workers(desk: Desk) -> None:
    desk.fill()
    losses = {}
    for workers in (1, 2, 3):
        keys = ["model_params.dropout=0", "batch=96", "steps=20", "log_every=1", "worker.cpus=0.5"]
        changes = [part for key in keys for part in ("-s", key)]
        done = desk.delayline("train", "cnn-digits", *changes, "--workers", str(workers), "--name", f"by-{workers}", "--json")
        assert done.code == 0, done.err
        losses[workers] = [row["loss"] for row in done.document["history"]]
        assert len(losses[workers]) == 20
    np.testing.assert_allclose(losses[2], losses[1], rtol=1e-4)
    np.testing.assert_allclose(losses[3], losses[1], rtol=1e-4)


def test_target_space_gives_the_same_run_at_one_and_two_workers(desk: Desk) -> None:
    losses = {}
    # Few steps, and not by Adam: in target space rounding grows by itself.
    optimizer = "optimizer={name: sgd, learning_rate: 20.0}"
    for workers in (1, 2):
        keys = [
            "space={name: target, ridge: 0.1, target_std: 0.1}",
            "model_params.dropout=0",
            optimizer,
            "batch=96",
            "steps=14",
            "log_every=1",
        ]
        changes = [part for key in keys for part in ("-s", key)]
        done = desk.delayline(
            "train", "cnn-digits", *changes, "--workers", str(workers), "--name", f"targets-{workers}", "--json"
        )
        assert done.code == 0, done.err
        losses[workers] = [row["loss"] for row in done.document["history"]]
    np.testing.assert_allclose(losses[2], losses[1], rtol=1e-4)
    assert losses[1][-1] < losses[1][0]
