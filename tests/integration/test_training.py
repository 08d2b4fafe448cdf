"""What a run that nothing disturbs leaves behind, and that the number of workers does not change it."""

from pathlib import Path

import numpy as np
import pytest
from support.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_default_run(workspace: Workspace) -> None:
    done = workspace.delayline("train", "--name", "first", "--json")
    assert done.code == 0, done.err
    run = done.document
    assert run["state"] == "succeeded"
    assert run["metrics"]["test_accuracy"] >= 0.97
    assert [worker["rank"] for worker in run["attempts"][-1]["workers"]] == [0, 1]
    assert "Total params" in done.err, "the model's summary is shown before the start"
    assert "epoch 20/20" in done.err
    folder = Path(workspace.store_url) / "runs" / "first"
    for name in ("spec.json", "state.json", "metrics.json", "checkpoints.json", "model.keras"):
        assert (folder / name).stat().st_size, name
    assert sorted(log.parent.name[:5] + log.name for log in folder.glob("logs/*/rank-*")) == [
        "0001-rank-0.log",
        "0001-rank-1.log",
    ]
    assert list(folder.glob("tensorboard/**/events.out.tfevents.*"))
    again = workspace.delayline("train", "--name", "first", "--json")
    assert again.document["finished"] == run["finished"]
    listed = workspace.delayline("runs", "list", "--json").document
    assert [(row["id"], row["state"]) for row in listed] == [("first", "succeeded")]
    assert "worker 1 of 2" in workspace.delayline("runs", "logs", "first", "--rank", "1").out


def test_export_gives_the_models_test_accuracy(calm: Workspace, tmp_path: Path) -> None:
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


DIGITS = "recipe: cnn-digits, model_params: {dropout: 0}, batch: 96, steps: 14, log_every: 1, worker: {cpus: 0.5}, seed: 1"
BITS = (
    "dataset_params: {delay: 3, sequences: 100, fresh: true}, batch: 30, steps: 20, log_every: 1, worker: {cpus: 0.5}, "
    "checkpoint: {every_steps: 10}"
)
BASES = {
    "digits": f"{{{DIGITS}}}",
    # Few steps, and not by Adam: in target space rounding grows by itself.
    "targets": f"{{{DIGITS}, space: {{name: target, ridge: 0.1, target_std: 0.1}}, optimizer: {{name: sgd, learning_rate: 20.0}}}}",
    "lstm": f"{{recipe: bit-memory-lstm, {BITS}}}",
    "elman": f"{{recipe: bit-memory-elman, {BITS}}}",
}


def test_the_same_runs_at_any_number_of_workers(workspace: Workspace) -> None:
    """As trials of sweeps: of pictures, in weight and in target space, and of sequences."""
    workspace.fill()
    for name, base in BASES.items():
        (workspace.folder / f"{name}.yaml").write_text(base)
    bases = ", ".join(f"{name}.yaml" for name in BASES)
    (workspace.folder / "sweep.yaml").write_text(f"{{base: [{bases}], space: {{seed: {{grid: [1]}}}}, metric: loss, mode: min}}")
    losses = {}
    for workers in (1, 2):
        options = ("--workers", str(workers), "--name", f"by-{workers}", "--json")
        done = workspace.delayline("sweep", "sweep.yaml", *options)
        assert done.code == 0, done.err
        assert [trial["state"] for trial in done.document["trials"]] == ["succeeded"] * 4
        assert [len(trial["attempts"][-1]["workers"]) for trial in done.document["trials"]] == [workers] * 4
        losses[workers] = [losses_of(workspace, trial["id"]) for trial in done.document["trials"]]
        assert [len(each) for each in losses[workers]] == [14, 14, 20, 20]
    for two, one in zip(losses[2], losses[1], strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4)
    in_targets = losses[1][1]
    assert in_targets[-1] < in_targets[0]
    # A number of workers that divides nothing.
    done = workspace.delayline("train", "digits.yaml", "--workers", "3", "--name", "by-3", "--json")
    assert done.code == 0, done.err
    np.testing.assert_allclose(losses_of(workspace, "by-3"), losses[1][0], rtol=1e-4)


def losses_of(workspace: Workspace, run_id: str) -> list[float]:
    return [row["loss"] for row in workspace.show(run_id)["history"] if "loss" in row]
