"""A failure of the user's own ends the run at once: one attempt, exit code 3, the reason and the user's stack lines."""

import json
from pathlib import Path

import pytest
from desk import Desk

pytestmark = pytest.mark.slow

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
MODELS = {
    "raises": ("def build(shape, classes):\n    raise RuntimeError('my own mistake')\n", "my own mistake"),
    "returns_no_model": ("def build(shape, classes):\n    return 'a model'\n", "returned str"),
    "wrong_shape": (
        "import keras\ndef build(shape, classes):\n    return keras.Sequential([keras.Input(shape), keras.layers.Dense(classes)])\n",
        "must give logits of shape (batch, 10)",
    ),
    "has_no_function": ("def other():\n    pass\n", "build"),
    "raises_in_a_step": (ODD_LAYER, "only while training"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_mistake_in_the_users_model(desk: Desk, name: str) -> None:
    source, reason = MODELS[name]
    (desk.folder / "mine.py").write_text(source)
    done = desk.delayline("train", "run.yaml", "-s", "model=mine:build", "-s", "callbacks=[]", "--name", "mine", "--workers", "1")
    assert_ended_at_once(desk, done, reason)
    if "raises" in name:
        logs = desk.delayline("runs", "logs", "mine")
        assert "mine.py" in logs.out
        assert "raise " in logs.out


def test_a_loss_that_is_not_finite(desk: Desk) -> None:
    arguments = ["-s", "optimizer={name: sgd, learning_rate: 1.0e+30}", "-s", "callbacks=[]", "--name", "mine"]
    done = desk.delayline("train", "run.yaml", *arguments)
    assert_ended_at_once(desk, done, "The loss became")


def test_a_label_that_no_class_has(desk: Desk) -> None:
    import numpy as np

    images = np.zeros((96, 8, 8, 1), np.uint8)
    labels = np.arange(96) % 10
    np.savez(desk.folder / "few.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert desk.delayline("data", "import", "few", "--from", "few.npz", "--format", "npz").code == 0
    (manifest,) = Path(desk.store_url).glob("datasets/few/*/manifest.json")
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**document, "classes": document["classes"][:5]}))
    done = desk.delayline("train", "run.yaml", "-s", "dataset=few", "-s", "callbacks=[]", "--name", "mine")
    assert_ended_at_once(desk, done, "label")


def assert_ended_at_once(desk: Desk, done: object, reason: str) -> None:
    """One attempt, exit code 3, the reason on standard error and in the run's error, no traceback."""
    assert (done.code, "Traceback" in done.err) == (3, False), done.err
    assert reason in done.err
    document = desk.show("mine")
    assert document["state"] == "failed"
    assert len(document["attempts"]) == 1
    assert reason in document["error"]["message"]


def test_a_flipped_byte_in_a_dataset_is_found(desk: Desk) -> None:
    import numpy as np

    images = np.random.default_rng(0).integers(0, 256, (96, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(96) % 10
    np.savez(desk.folder / "few.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert desk.delayline("data", "import", "few", "--from", "few.npz", "--format", "npz").code == 0
    shard = next(Path(desk.store_url).glob("datasets/few/*/train-*.parquet"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    done = desk.delayline("train", "run.yaml", "-s", "dataset=few", "-s", "callbacks=[]", "--name", "mine")
    assert done.code != 0
    assert "Traceback" not in done.err
    assert "differs from its checksum: import the dataset again" in done.err
    assert len(desk.show("mine")["attempts"]) == 1
