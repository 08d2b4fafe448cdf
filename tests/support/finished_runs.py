"""Runs that ended, with models of random weights, as the commands that read them find them."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from jobs.artifacts.checkpoints import CheckpointStore, Snapshot
from jobs.models.registry import build_model
from jobs.training.variables import copy_model
from service.datasets.catalogue import embedded_arrays
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.records.submission_schemas import Origin
from service.specs.train import TrainSpec

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


def finished(record: RunRecord, spec: TrainSpec, folder: Path, state: str = "succeeded") -> None:
    assert record.claim(spec, Origin(folder=str(folder), dataset_version="uci-1998"))
    record.write_state(StateDocument(state=state, attempts=[], error=None))


def trained(spec: TrainSpec, folder: Path, shift: float = 1.0) -> keras.Model:
    # The same whatever other tests of this process drew: with some initial weights two models that differ give the same classes.
    keras.utils.set_random_seed(0)
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


def evaluated(record: RunRecord, model: keras.Model) -> float:
    """The model's accuracy on the digits' test split, and the note of it that the run's end leaves."""
    test = embedded_arrays("digits")["test"]
    logits = np.asarray(model(test["image"].astype(np.float32) / 16))
    accuracy = float(np.mean(logits.argmax(axis=1) == test["label"]))
    record.write_state(record.state().changed(metrics={"test_accuracy": accuracy}))
    return accuracy
