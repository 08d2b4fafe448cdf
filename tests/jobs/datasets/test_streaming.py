"""A streamed split gives the batches that the arrays in memory give, whatever its shards, the workers and the first step."""

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.datasets_in_a_store import CLASSES, flip_a_byte, make_dataset

import jobs.datasets.streaming as streaming
from jobs.datasets.augmentation import make_augmenter
from jobs.datasets.layout import Layout
from jobs.datasets.load import Arrays, load_arrays
from jobs.datasets.reading import open_reader
from jobs.datasets.streaming import RowStream, cut_into_parts
from jobs.tasks.classification import Classification
from jobs.training.batches import BatchFeeder, BatchPlan, split_validation
from jobs.training.evaluation import Evaluator
from jobs.training.metrics import ExtraMetrics
from service.datasets import find_dataset
from service.errors import BadData, Damaged
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage import open_store
from service.storage.base import Store

AUGMENT = [{"name": "flip"}, {"name": "shift", "pixels": 1}]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Settings.load(store=str(tmp_path / "store")))


@pytest.fixture(autouse=True)
def read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The read tasks run in this process, a few examples each; tests/jobs/datasets/test_ordered_reads.py has Ray Data."""

    def here(tasks: Sequence[Callable[[], list[Any]]], rows: Sequence[int], row_bytes: int) -> Iterator[Any]:
        for task, count in zip(tasks, rows, strict=True):
            (table,) = task()
            assert table.num_rows == count
            # Ray Data may cut a block in two.
            yield table.slice(0, count // 2)
            yield table.slice(count // 2)

    monkeypatch.setattr("jobs.datasets.load.RowStream", functools.partial(RowStream, read=here))
    monkeypatch.setattr(streaming, "PART_BYTES", 7 * 30)
    monkeypatch.setattr(streaming, "AHEAD_BYTES", 2 * 7 * 30)
    monkeypatch.setattr(streaming, "PARTS_A_DATASET", 3)


def load(store: Store, name: str, way: str, cache: Path) -> Arrays:
    spec = TrainSpec.model_validate({"model": "dense", "dataset": name, "epochs": 1, "input": way, "batch": 1})
    return load_arrays(spec, store, None, cache, 10**8, check=Classification().check_labels)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    window=st.integers(1, 80),
    workers=st.integers(1, 3),
    local=st.integers(1, 4),
    start=st.integers(0, 40),
    cuts=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    seed=st.integers(0, 10**6),
)
def test_both_ways_give_the_same_batches(
    store: Store, tmp_path: Path, sizes: list[int], window: int, workers: int, local: int, start: int, cuts: list[int], seed: int
) -> None:
    batch = workers * local
    sizes = [*sizes, 2 * batch]
    manifest = make_dataset(store, "d", sizes, seed=seed)
    cache = Path(tempfile.mkdtemp(dir=tmp_path))
    rows, _ = split_validation(seed, sum(sizes), 0.1)
    chunks = {}
    for way in ("memory", "stream"):
        arrays = load(store, f"d@{manifest.version}", way, cache)
        assert arrays.streamed == (way == "stream")
        layout = Layout(arrays.layout.ends, window)
        for rank in range(workers):
            plan = BatchPlan(rows, batch, seed, rank, workers, layout)
            spec = TrainSpec.model_validate({"model": "dense", "dataset": "d", "epochs": 1, "augment": AUGMENT})
            feeder = BatchFeeder(plan, arrays.train, arrays.train_labels, make_augmenter(spec.augment, seed))
            chunks[way, rank] = list(taken(feeder, plan, start, cuts))
            feeder.close()
    for rank in range(workers):
        for ours, theirs in zip(chunks["stream", rank], chunks["memory", rank], strict=True):
            assert ours.labels.tobytes() == theirs.labels.tobytes()
            assert sorted(ours.features) == sorted(theirs.features) == ["image", "length", "track"]
            for name, array in theirs.features.items():
                assert (ours.features[name].shape, ours.features[name].dtype) == (array.shape, array.dtype)
                assert ours.features[name].tobytes() == array.tobytes()


def taken(feeder: BatchFeeder, plan: BatchPlan, step: int, cuts: list[int]) -> Iterator[Any]:
    """Chunks from `step` on, cut at the ends of epochs as the training loop cuts them."""
    counts = []
    for cut in cuts:
        at = step + sum(counts)
        counts.append(min(cut, plan.steps_per_epoch - at % plan.steps_per_epoch))
    for index, count in enumerate(counts):
        chunk = feeder.take(step, count)
        step += count
        feeder.prepare(step, counts[index + 1] if index + 1 < len(counts) else 0)
        yield chunk


class Replica:
    """In the replica's place: keeps what it is given."""

    metric_names = ()
    extra = ExtraMetrics((), 0)

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def evaluate(self, features: dict[str, Any], labels: Any, weights: Any) -> Any:
        self.given += [b"".join(features[name].tobytes() for name in sorted(features)), labels.tobytes(), weights.tobytes()]
        return np.array([0.0, weights.sum()])


@pytest.mark.parametrize(("workers", "batch"), [(1, 4), (2, 3), (3, 256)])
def test_an_evaluation_sees_the_same_examples_streamed(
    store: Store, tmp_path: Path, workers: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.training.evaluation.BATCH", batch)
    make_dataset(store, "d", [11, 30, 2])
    rows = np.sort(np.random.default_rng(0).permutation(43)[:31])
    for rank in range(workers):
        given = []
        for way in ("memory", "stream"):
            arrays, replica = load(store, "d", way, tmp_path / "cache"), Replica()
            Evaluator(replica, arrays.train, arrays.train_labels, rows, rank, workers).evaluate()  # type: ignore[arg-type]
            given.append(replica.given)
        assert given[0] == given[1] != []


def test_a_validation_split_of_its_own_is_streamed_too(store: Store, tmp_path: Path) -> None:
    make_dataset(store, "d", [11, 30], validation=[4, 3])
    memory, stream = (load(store, "d", way, tmp_path / "cache") for way in ("memory", "stream"))
    order, given = np.arange(7)[::-1], []
    for arrays in (memory, stream):
        columns, labels = arrays.held_out
        assert len(labels) == 7 and columns is arrays.validation
        with contextlib.closing(open_reader(columns, labels, iter([order]))) as reader:
            given.append({name: array.tobytes() for name, array in reader.take(order).items()})
    assert given[0] == given[1] and set(given[0]) == {"image", "length", "track", "label"}


def test_a_feeder_that_is_asked_for_another_step_begins_its_stream_anew(store: Store, tmp_path: Path) -> None:
    make_dataset(store, "d", [30])
    plan = BatchPlan(np.arange(30), 5, 0)
    memory, stream = (load(store, "d", way, tmp_path / "cache") for way in ("memory", "stream"))
    feeder = BatchFeeder(plan, stream.train, stream.train_labels, None)
    for step in (4, 5, 0, 11):
        assert (feeder.take(step, 1).labels == memory.train_labels[plan.indices(step, 1)]).all()
    feeder.close()


def test_a_shard_that_is_damaged_ends_the_stream_where_it_is_needed(store: Store, tmp_path: Path) -> None:
    manifest = make_dataset(store, "d", [10, 10])
    flip_a_byte(store, manifest.shards[1].key)
    arrays = load(store, "d", "stream", tmp_path / "cache")
    reader = arrays.train.stream(iter([np.arange(20)]))  # type: ignore[attr-defined]
    assert len(reader.take(np.arange(7))["label"]) == 7
    with pytest.raises(Damaged, match=manifest.shards[1].key):
        reader.take(np.arange(7, 20))
    reader.close()


def test_a_wrong_label_in_a_stream_is_named_by_its_example(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_dataset(store, "d", [10, 10])
    wrong = np.flatnonzero(load(store, "d", "memory", tmp_path / "cache").train_labels == len(CLASSES) - 1)
    manifest = find_dataset(store, "d")
    two = type(manifest)(**{**vars(manifest), "classes": CLASSES[:2]})
    monkeypatch.setattr("jobs.datasets.load.find_dataset", lambda *_: two)
    arrays = load(store, "d", "stream", tmp_path / "cache")
    order = np.arange(20)[::-1]
    with pytest.raises(BadData, match=f"Example {wrong[-1]} has the label 2, but there are 2 classes"):
        arrays.train.stream(iter([order])).take(order)  # type: ignore[attr-defined]


def test_what_stands_in_the_place_of_an_array_reads_what_it_is_indexed_with(store: Store, tmp_path: Path) -> None:
    make_dataset(store, "d", [10, 10])
    memory, stream = (load(store, "d", way, tmp_path / "cache") for way in ("memory", "stream"))
    assert stream.input_shape == memory.input_shape
    for index in (np.array([3, 19, 0]), slice(8, 12), slice(None, 1), np.arange(20) % 2 == 0, 4):
        for name, array in memory.train.items():
            column = stream.train[name]
            assert (column.shape, column.dtype, len(column)) == (array.shape, array.dtype, 20)
            assert column[index].shape == array[index].shape
            assert column[index].tobytes() == array[index].tobytes()
    assert (np.asarray(stream.test_labels) == memory.test_labels).all()


@given(orders=st.lists(st.integers(0, 20), max_size=6), rows=st.integers(1, 8))
def test_parts_are_the_orders_one_after_another(orders: list[int], rows: int) -> None:
    pieces = [np.arange(size) + 100 * index for index, size in enumerate(orders)]
    parts = list(cut_into_parts(iter(pieces), rows))
    assert [int(row) for part in parts for row in part] == [int(row) for piece in pieces for row in piece]
    assert all(len(part) == rows for part in parts[:-1])
    assert all(len(part) for part in parts)
