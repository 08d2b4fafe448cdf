"""A failure of the user's own ends the run at once: one attempt, exit code 3, the reason and the user's stack lines."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.workspace import Done, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ODD_LAYER = """
import keras

class Odd(keras.layers.Layer):
    def call(self, x, training=False):
        if training:
            raise ValueError("only while training")
        return x

def build(shape, classes):
    return keras.Sequential([keras.Input(shape), Odd(), keras.layers.Flatten(), keras.layers.Dense(classes)])
"""
GROWS = """
import keras

def build(shape, classes):
    layers = [keras.layers.Flatten(), keras.layers.Dense(classes), *[keras.layers.Rescaling(1e30) for _ in range(2)]]
    return keras.Sequential([keras.Input(shape), *layers])
"""
MISTAKES = {
    "raises": ("def build(shape, classes):\n    raise RuntimeError('my own mistake')\n", "my own mistake"),
    "returns_no_model": ("def build(shape, classes):\n    return 'a model'\n", "returned str"),
    "wrong_shape": (
        "import keras\ndef build(shape, classes):\n    return keras.Sequential([keras.Input(shape), keras.layers.Dense(classes)])\n",
        "must give logits of shape (batch, 10)",
    ),
    "has_no_function": ("def other():\n    pass\n", "build"),
    "raises_in_a_step": (ODD_LAYER, "only while training"),
    "grows": (GROWS, "The loss became"),
}
"""By module: its source, and what is said of it."""


def test_mistakes_in_the_users_models_are_noted_and_their_sweep_continues(workspace: Workspace) -> None:
    """Each is a trial, which is a run."""
    for name, (source, _) in MISTAKES.items():
        (workspace.folder / f"{name}.py").write_text(source)
    models = [*(f"{name}:build" for name in MISTAKES), "nets:build"]
    (workspace.folder / "sweep.yaml").write_text(json.dumps({"base": "run.yaml", "space": {"model": {"grid": models}}}))
    changes = ("base.worker.cpus=1", "base.workers=1", "base.steps=20", "base.callbacks=[]")
    options = [word for change in changes for word in ("-s", change)]
    done = workspace.delayline("sweep", "sweep.yaml", *options, "--name", "faulty", "--json")
    assert (done.code, "Traceback" in done.err) == (0, False), done.err
    trials = {trial["params"]["model"]: trial for trial in done.document["trials"]}
    assert list(trials) == models
    assert trials["nets:build"]["state"] == "succeeded"
    assert done.document["best"]["params"] == {"model": "nets:build"}
    for name, (_, reason) in MISTAKES.items():
        trial = trials[f"{name}:build"]
        assert_failed_at_once(workspace.show(trial["id"]), reason)
        assert (trial["state"], trial["error"]["exit_code"]) == ("failed", 3)
        if "raises" in name:
            logs = workspace.delayline("runs", "logs", trial["id"])
            assert f"{name}.py" in logs.out
            assert "raise " in logs.out


def test_a_mistake_in_the_users_model_ends_the_command(workspace: Workspace) -> None:
    (workspace.folder / "mine.py").write_text(ODD_LAYER)
    done = workspace.delayline("train", "run.yaml", "-s", "model=mine:build", "-s", "callbacks=[]", "--name", "mine")
    assert_ended_at_once(workspace, done, "only while training")


def test_a_label_that_no_class_has(workspace: Workspace) -> None:
    import numpy as np

    images = np.zeros((96, 8, 8, 1), np.uint8)
    labels = np.arange(96) % 10
    np.savez(workspace.folder / "few.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert workspace.delayline("data", "import", "few", "--from", "few.npz", "--format", "npz").code == 0
    (manifest,) = Path(workspace.store_url).glob("datasets/few/*/manifest.json")
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**document, "classes": document["classes"][:5]}))
    done = workspace.delayline("train", "run.yaml", "-s", "dataset=few", "-s", "callbacks=[]", "--workers", "1", "--name", "mine")
    assert_ended_at_once(workspace, done, "label")


def assert_ended_at_once(workspace: Workspace, done: Done, reason: str) -> None:
    """One attempt, exit code 3, the reason on standard error and in the run's error, no traceback."""
    assert (done.code, "Traceback" in done.err) == (3, False), done.err
    assert reason in done.err
    assert_failed_at_once(workspace.show("mine"), reason)


def assert_failed_at_once(document: Any, reason: str) -> None:
    assert document["state"] == "failed"
    assert len(document["attempts"]) == 1
    assert reason in document["error"]["message"]


def test_a_flipped_byte_in_a_dataset_is_found(workspace: Workspace) -> None:
    import numpy as np

    images = np.random.default_rng(0).integers(0, 256, (96, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(96) % 10
    np.savez(workspace.folder / "few.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert workspace.delayline("data", "import", "few", "--from", "few.npz", "--format", "npz").code == 0
    shard = next(Path(workspace.store_url).glob("datasets/few/*/train-*.parquet"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    done = workspace.delayline("train", "run.yaml", "-s", "dataset=few", "-s", "callbacks=[]", "--name", "mine")
    assert done.code != 0
    assert "Traceback" not in done.err
    assert "differs from its checksum: import the dataset again" in done.err
    assert len(workspace.show("mine")["attempts"]) == 1
