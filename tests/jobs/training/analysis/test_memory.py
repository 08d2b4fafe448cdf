"""What is written of a network that remembers, and the states of recurrent layers, against the model itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from jobs.artifacts.tensors import tensors_from_bytes
from jobs.datasets.load import load_arrays
from jobs.models.registry import build_model
from jobs.training.analysis.analyse import analyse
from jobs.training.analysis.description import describe_attempt
from jobs.training.analysis.memory import NOT_COUNTED, Memory
from jobs.training.analysis.states import MOST_STEPS, MOST_UNITS, States, hidden_states, recurrent_layers
from jobs.training.analysis.subject import Subject
from jobs.training.replica import Replica
from service.records.run_record import RunRecord
from service.specs.train import TrainSpec
from service.storage.json_documents import from_bytes
from service.storage.local import LocalStore

MakeReplica = Callable[..., Replica]
DELAY, LENGTH = 3, 9


@pytest.fixture
def make_subject(make_replica: MakeReplica, tmp_path: Path) -> Callable[[str], Subject]:
    def make(model: str) -> Subject:
        params = {"delay": DELAY, "length": LENGTH, "sequences": 20}
        spec = TrainSpec(model=model, dataset="bits", task="bit-memory", dataset_params=params, epochs=1, batch=4)
        store = LocalStore(tmp_path / "store")
        arrays = load_arrays(spec, store, None, tmp_path / "cache", 10**6)
        replica = make_replica(spec, lambda: build_model(spec, (LENGTH, 1), 1, None, True), feature="bits")
        counts = {"training": 18, "validation": 2, "test": 20, "steps_per_epoch": 4}
        return Subject(spec, RunRecord(store, "a-run"), replica, arrays, 0, 1, 1, counts, 10**12)

    return make


@pytest.mark.parametrize("model", ["simple-rnn", "lstm", "gru", "elman", "jordan"])
def test_the_documents_of_a_network_that_remembers(make_subject: Callable[[str], Subject], model: str) -> None:
    subject, notes = make_subject(model), []
    describe_attempt(subject, lambda event, message: notes.append((event, message)))
    analyse(subject, lambda event, message: notes.append((event, message)))
    assert notes == []
    store, paths, label = subject.record.store, subject.record.paths, subject.label
    facts, results = (from_bytes(store.read(key), key) for key in (paths.model_facts(label), paths.results(label)))
    pictures = tensors_from_bytes(store.read(paths.pictures(label)))
    assert facts["chance"] == 0.5 and "by_class" not in facts["counts"]
    logits = np.asarray(subject.replica.model(subject.arrays.test["bits"]))[..., 0]
    labels = subject.arrays.test_labels
    right = ((logits > 0) == (labels > 0))[:, DELAY:]
    memory = results["memory"]
    assert (memory["sequences"], memory["bits"], memory["right"]) == (20, 20 * (LENGTH - DELAY), right.sum())
    assert memory["by_step"][:DELAY] == [None] * DELAY
    np.testing.assert_allclose(memory["by_step"][DELAY:], right.mean(0), atol=1e-6)
    assert (pictures["memory-targets"] == np.where(labels < 0, NOT_COUNTED, labels)[:12]).all()
    assert ((pictures["memory-outputs"] >= 128) == (logits[:12] > 0)).all()
    (states,) = results["states"]
    assert (states["units"], states["steps"]) == (DELAY + 3, LENGTH)
    assert pictures["states-0"].shape == (DELAY + 3, LENGTH)


@pytest.mark.parametrize("model", ["simple-rnn", "lstm", "gru", "elman"])
def test_states_are_what_the_layer_gives_at_each_step(make_subject: Callable[[str], Subject], model: str) -> None:
    subject = make_subject(model)
    example = {"bits": subject.arrays.test["bits"][4:5]}
    (states,) = hidden_states(subject.replica, example)
    np.testing.assert_allclose(states.values, np.asarray(subject.replica.model.layers[0](example["bits"]))[0], atol=1e-6)


def test_states_of_a_layer_that_gives_the_last_alone_end_with_it(make_replica: MakeReplica, make_spec: Any) -> None:
    def build() -> keras.Model:
        layers = keras.layers
        first = layers.LSTM(4, return_sequences=True)
        return keras.Sequential([keras.Input((8, 8, 1)), layers.Reshape((8, 8)), first, layers.GRU(3), layers.Dense(10)])

    replica = make_replica(make_spec(), build)
    count = len(replica.model.variables)
    x = np.random.default_rng(0).random((1, 8, 8, 1)).astype(np.float32)
    one, two = hidden_states(replica, {"x": x})
    assert one.values.shape == (8, 4) and two.values.shape == (8, 3)
    np.testing.assert_allclose(
        two.values[-1], keras.Model(replica.model.inputs[0], replica.model.layers[2].output)(x)[0], atol=1e-6
    )
    assert len(replica.model.variables) == count


def test_a_network_without_recurrence_has_no_states() -> None:
    assert recurrent_layers(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])) == []


def test_zero_stays_in_the_middle_of_a_picture() -> None:
    states = States("rnn", "SimpleRNN", 3, 2, np.array([[0.0, 0.5, -0.25], [-0.5, 0, 0]], np.float32))
    assert states.picture().tolist() == [[128, 1], [255, 128], [64, 128]]
    assert (States("rnn", "SimpleRNN", 1, 1, np.zeros((1, 1), np.float32)).picture() == 128).all()
    assert MOST_STEPS <= 1024 and MOST_UNITS <= 1024


def test_chances_near_a_half_keep_their_side() -> None:
    chances = np.array([[0.0, 0.4999, 0.5, 0.5001, 1.0]], np.float32)
    memory = Memory(np.array([0]), np.array([[0, 0, 0, 1, 1]], np.int32), chances)
    outputs = memory.pictures()["memory-outputs"]
    assert outputs.tolist()[0][0] == 0 and outputs.tolist()[0][-1] == 255
    assert ((outputs >= 128) == (chances > 0.5)).all()
    assert memory.document()["right"] == 5
