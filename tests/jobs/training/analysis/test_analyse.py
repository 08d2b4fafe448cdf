"""What a worker leaves for the report: the documents of a real replica, and that nothing here ends a run."""

import dataclasses
import re
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
import pytest
from keras import layers

from jobs.artifacts.tensors import tensors_from_bytes
from jobs.datasets.layout import Layout
from jobs.datasets.load import Arrays
from jobs.training.analysis.analyse import analyse
from jobs.training.analysis.description import describe_attempt
from jobs.training.analysis.estimate import STATES, agree_on_budget
from jobs.training.analysis.filters import activation_pictures, filter_pictures
from jobs.training.analysis.subject import Subject
from jobs.training.evaluation import Evaluator
from jobs.training.replica import Replica
from service.datasets import Feature
from service.errors import NotFound
from service.records.run_record import RunRecord
from service.specs.train import TrainSpec
from service.storage.json_documents import from_bytes
from service.storage.local import LocalStore

CLASSES = ("zero", "one", "two")
SHAPE = (8, 6, 1)
MakeReplica = Callable[..., Replica]
MakeSpec = Callable[..., TrainSpec]


class Notes(list[tuple[str, str]]):
    def __call__(self, event: str, message: str) -> None:
        self.append((event, message))


def images(count: int, shape: tuple[int, ...]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    random = np.random.default_rng(count)
    return {"x": random.integers(0, 17, (count, *shape)).astype(np.uint8)}, random.integers(0, 3, count).astype(np.int32)


@pytest.fixture
def make_subject(make_replica: MakeReplica, make_spec: MakeSpec, tmp_path: Path) -> Callable[..., Subject]:
    """Makes what a single worker looks at: a small network on random examples."""

    def make(*inner: Any, shape: tuple[int, ...] = SHAPE, classes: tuple[str, ...] = CLASSES, memory: int = 10**12) -> Subject:
        def build() -> keras.Model:
            return keras.Sequential([keras.Input(shape), *inner, layers.Dense(len(classes))])

        (train, train_labels), (test, test_labels) = images(40, shape), images(50, shape)
        feature = Feature("x", "uint8", shape, 16.0)
        spec = make_spec()
        return Subject(
            spec=spec,
            record=RunRecord(LocalStore(tmp_path / "store"), "a-run"),
            replica=make_replica(spec, build, scale=16.0),
            arrays=Arrays(
                (feature,), classes, train, train_labels, test, test_labels, Layout(np.array([len(train_labels)]), 1000)
            ),
            rank=0,
            workers=1,
            attempt=3,
            counts={"training": 36, "validation": 4, "test": 50, "steps_per_epoch": 4},
            memory=memory,
        )

    return make


def document(subject: Subject, key: str) -> dict[str, Any]:
    return from_bytes(subject.record.store.read(key), key)


def test_the_documents_of_a_convolutional_network(make_subject: Callable[..., Subject]) -> None:
    subject, notes = make_subject(layers.Conv2D(5, 3, activation="relu"), layers.Flatten(), layers.Dropout(0.5)), Notes()
    describe_attempt(subject, notes)
    analyse(subject, notes)
    assert notes == []
    paths, label = subject.record.paths, subject.label
    facts, results = document(subject, paths.model_facts(label)), document(subject, paths.results(label))
    pictures = tensors_from_bytes(subject.record.store.read(paths.pictures(label)))
    assert [row["kind"] for row in facts["layers"]] == ["Conv2D", "Flatten", "Dropout", "Dense"]
    assert facts["parameters"] == subject.replica.model.count_params()
    assert facts["counts"]["by_class"] == np.bincount(subject.arrays.train_labels).tolist()
    assert {"python", "tensorflow", "keras", "ray"} <= set(facts["versions"])
    assert document(subject, paths.hardware(label, 0))["cores"] >= 1
    metrics = Evaluator(subject.replica, subject.arrays.test, subject.arrays.test_labels, np.arange(50), 0, 1).evaluate()
    assert results["examples"] == results["of"] == 50
    right = sum(count for true, predicted, count in results["pairs"] if true == predicted)
    assert right / 50 == pytest.approx(metrics["accuracy"])
    assert sum(count for _, _, count in results["pairs"]) == 50 and results["wrong"] == 50 - right
    assert results["classes"] == list(CLASSES) and results["class_count"] == 3
    assert len(pictures["mistakes"]) == len(results["mistakes"]) <= results["wrong"]
    first = results["mistakes"][0]
    stored = subject.arrays.test["x"][first["row"]].astype(float)
    np.testing.assert_array_equal(pictures["mistakes"][0], np.rint(255 * stored / 16).astype(np.uint8))
    layer = subject.replica.model.layers[0]
    np.testing.assert_array_equal(pictures["filters"], filter_pictures(np.asarray(layer.kernel)))
    assert pictures["activations"].shape == (5, 6, 4)
    example = pictures["example"].astype(np.float32) / 255
    np.testing.assert_allclose(pictures["activations"], activation_pictures(np.asarray(layer(example))[0]), atol=2)
    assert results["first_layer"]["true"] == results["first_layer"]["predicted"]
    assert results["all_reduce_seconds"] == 0.0


def test_examples_that_are_no_pictures(make_subject: Callable[..., Subject]) -> None:
    subject, notes = make_subject(layers.Dense(4), shape=(9,)), Notes()
    describe_attempt(subject, notes)
    analyse(subject, notes)
    assert notes == []
    results = document(subject, subject.record.paths.results(subject.label))
    assert "not pictures" in results["first_layer"]["why_not"]
    assert results["mistakes"]
    assert tensors_from_bytes(subject.record.store.read(subject.record.paths.pictures(subject.label))) == {}


def test_whatever_fails_is_an_event_and_no_error(make_subject: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch) -> None:
    subject, notes = make_subject(layers.Flatten()), Notes()

    def fails(*_: Any) -> Any:
        raise ValueError("a model that\ncannot be called so")

    monkeypatch.setattr(subject.replica, "forward", fails)
    monkeypatch.setattr("jobs.training.analysis.description.layer_rows", fails)
    describe_attempt(subject, notes)
    analyse(subject, notes)
    assert [event for event, _ in notes] == ["not described", "not analysed"]
    assert notes[1][1].endswith("ValueError: a model that cannot be called so")
    with pytest.raises(NotFound):
        subject.record.store.read(subject.record.paths.results(subject.label))


def test_a_model_that_does_not_answer_is_left_behind(
    make_subject: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another worker has continued: its part of a sum never comes."""
    subject, notes, over = make_subject(layers.Flatten()), Notes(), threading.Event()

    def waits(_: Any) -> Any:
        over.wait(60)
        raise ValueError("too late")

    monkeypatch.setattr("jobs.training.analysis.analyse.MOST_SECONDS", 0.3)
    monkeypatch.setattr(subject.replica, "sum_over_workers", waits)
    began = time.monotonic()
    analyse(subject, notes)
    assert time.monotonic() - began < 30
    over.set()
    assert [event for event, _ in notes] == ["not analysed"]
    assert "it took longer than 0.3 s" in notes[0][1]


def test_only_rank_0_writes_the_results(make_subject: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch) -> None:
    subject = dataclasses.replace(make_subject(layers.Flatten()), rank=1)
    describe_attempt(subject, Notes())
    analyse(subject, Notes())
    keys = {info.key for info in subject.record.store.objects(subject.record.paths.root)}
    assert keys == {subject.record.paths.hardware(subject.label, 1)}


def test_ten_thousand_classes_cost_what_the_examples_cost(make_subject: Callable[..., Subject]) -> None:
    names = tuple(f"class {number}" for number in range(10_000))
    subject, notes = make_subject(layers.Flatten(), classes=names), Notes()
    random = np.random.default_rng(0)
    subject.arrays.test_labels[:] = random.integers(0, 10_000, 50)
    tracemalloc.start()
    try:
        describe_attempt(subject, notes)
        analyse(subject, notes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert notes == []
    # A matrix of so many classes would be 800 MB; the logits of a batch are 2.
    assert peak < 60 * 1024**2
    paths, store = subject.record.paths, subject.record.store
    results, facts = document(subject, paths.results(subject.label)), document(subject, paths.model_facts(subject.label))
    assert len(store.read(paths.results(subject.label))) < 20_000 and len(store.read(paths.model_facts(subject.label))) < 20_000
    occur = {number for true, predicted, _ in results["pairs"] for number in (true, predicted)}
    assert {int(number): name for number, name in results["names"].items()} == {number: names[number] for number in occur}
    assert sorted(true for true, _, count in results["pairs"] for _ in range(count)) == sorted(
        subject.arrays.test_labels.tolist()
    )
    assert facts["class_count"] == 10_000 and "classes" not in facts
    assert (facts["counts"]["fewest_of_a_class"], facts["counts"]["most_of_a_class"]) == (
        0,
        max(np.bincount(subject.arrays.train_labels)),
    )


def test_what_takes_more_than_a_quarter_of_the_memory_is_left_out_and_said(make_subject: Callable[..., Subject]) -> None:
    inner = (layers.Conv2D(64, 3), layers.Reshape((24, 64)), layers.LSTM(400))
    subject, notes = make_subject(*inner, memory=400 * 2**10), Notes()
    analyse(subject, notes)
    assert [event for event, _ in notes] == ["left out of the analysis"]
    assert re.search(r"what the recurrent layers hold: it would take 112\.5 KiB, and a quarter of .* is 100\.0 KiB", notes[0][1])
    results = document(subject, subject.record.paths.results(subject.label))
    assert results["states"] == [] and results["pairs"] and results["first_layer"]["filters"] == 64

    subject, notes = dataclasses.replace(subject, memory=0), Notes()
    analyse(subject, notes)
    assert len(notes) == 2 and "test examples, and the first layer: it would take" in notes[0][1]
    results = document(subject, subject.record.paths.results(subject.label))
    assert "pairs" not in results and results["states"] == [] and results["of"] == 50


def test_a_first_layer_of_large_pictures_is_left_out_alone(make_subject: Callable[..., Subject]) -> None:
    subject, notes = (
        make_subject(layers.Conv2D(200, 3), layers.GlobalAveragePooling2D(), shape=(64, 64, 1), memory=2**25),
        Notes(),
    )
    analyse(subject, notes)
    assert [message.partition(":")[0] for _, message in notes] == ["the report will lack what the first layer sees"]
    results = document(subject, subject.record.paths.results(subject.label))
    assert "left out" in results["first_layer"]["why_not"] and results["pairs"]


@pytest.mark.parametrize("rank", [0, 1])
def test_all_workers_leave_out_what_one_has_no_memory_for(rank: int) -> None:
    class Other:
        """The sum with what a second worker gives, which has 400 MiB."""

        def sum_over_workers(self, values: np.ndarray) -> np.ndarray:
            given = np.array([400 * 2**20] * 2, np.float32)
            given[rank] = values[rank]
            assert values[1 - rank] == 0
            return given

    notes = Notes()
    budget = agree_on_budget(cast(Replica, Other()), 8 * 2**30, rank, 2, notes)
    assert budget.holds(STATES, 100 * 2**20) and not budget.holds(STATES, 101 * 2**20)
    assert "100.0 MiB" in notes[0][1]
