"""TensorBoard's files, read by TensorBoard's own reader."""

import contextlib
import itertools
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.util import tensor_util

from jobs.artifacts.tensorboard import (
    FILE_BYTES,
    GRAPH_BYTES,
    HISTOGRAM_STEPS,
    HISTOGRAM_VALUES,
    HISTOGRAM_VARIABLES,
    TensorBoardFiles,
)
from service.errors import StoreError
from service.records.run_record import RunRecord
from service.storage.local import LocalStore

MakeFiles = Callable[[int], TensorBoardFiles]


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return RunRecord(LocalStore(tmp_path / "store"), "a-run")


@pytest.fixture
def make_files(record: RunRecord) -> Iterator[MakeFiles]:
    """Makes the files of an attempt, closed in the end."""
    with contextlib.ExitStack() as closing:

        def make(attempt: int) -> TensorBoardFiles:
            files = TensorBoardFiles(record, attempt)
            closing.callback(files.close)
            return files

        yield make


def read(record: RunRecord, folder: Path) -> EventAccumulator:
    """TensorBoard's reader of the store's files."""
    folder.mkdir()
    for key in record.tensorboard():
        record.store.download(key, folder / key.rsplit("/", 1)[1])
    accumulator = EventAccumulator(str(folder), {"tensors": 0})
    accumulator.Reload()
    return accumulator


def curves(record: RunRecord, folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each tag in the store's files."""
    accumulator = read(record, folder)
    tags = [tag for tag in accumulator.Tags()["tensors"] if not tag.startswith("weights/")]
    return {
        tag: [(event.step, round(float(tensor_util.make_ndarray(event.tensor_proto)), 4)) for event in accumulator.Tensors(tag)]
        for tag in tags
    }


def row(step: int, **values: float) -> dict[str, Any]:
    return {"epoch": 1, "step": step, "time": 1.0, "loss": 1 / step, "learning_rate": 0.5, **values}


def test_each_metric_is_a_curve_in_its_group(record: RunRecord, make_files: MakeFiles, tmp_path: Path) -> None:
    files = make_files(1)
    files.restart([], 0)
    files.add(row(1, accuracy=0.25))
    files.add(row(2, val_loss=0.5, val_accuracy=0.75))
    files.finish({"test_accuracy": 0.9, "loss": 3.0}, 2)
    assert curves(record, tmp_path / "read") == {
        "train/loss": [(1, 1.0), (2, 0.5)],
        "train/learning_rate": [(1, 0.5), (2, 0.5)],
        "train/accuracy": [(1, 0.25)],
        "validation/loss": [(2, 0.5)],
        "validation/accuracy": [(2, 0.75)],
        "test/accuracy": [(2, 0.9)],
    }


def test_a_shipped_file_holds_all_rows_so_far(record: RunRecord, make_files: MakeFiles, tmp_path: Path) -> None:
    files = make_files(1)
    files.add(row(1))
    files.ship()
    assert curves(record, tmp_path / "first")["train/loss"] == [(1, 1.0)]
    files.add(row(2))
    files.ship()
    assert curves(record, tmp_path / "second")["train/loss"] == [(1, 1.0), (2, 0.5)]
    files.finish({}, 2)


def test_another_attempt_begins_with_its_checkpoints_rows_and_drops_later_ones(
    record: RunRecord, make_files: MakeFiles, tmp_path: Path
) -> None:
    first = make_files(1)
    for step in (1, 2, 4):
        first.add(row(step))
    first.ship()
    second = make_files(2)
    second.restart([row(1), row(2)], 2)
    second.add(row(4, loss=7.0))
    second.finish({}, 4)
    assert curves(record, tmp_path / "read")["train/loss"] == [(1, 1.0), (2, 0.5), (4, 7.0)]
    assert len(list(record.store.objects(record.paths.tensorboard_root))) == 1


def test_a_store_that_refuses_costs_the_curves_and_not_the_run(
    record: RunRecord, make_files: MakeFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> str:
        raise StoreError("no space")

    files = make_files(1)
    files.add(row(1))
    monkeypatch.setattr(record.store, "upload", refuse)
    files.ship()
    files.finish({}, 1)


def test_an_attempt_that_failed_leaves_neither_folder_nor_thread(
    record: RunRecord, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(threading.enumerate())
    files = TensorBoardFiles(record, 1)
    files.add(row(1))
    assert set(threading.enumerate()) > before
    files.close()
    # A checkpoint may still be on its way.
    files.add_weights(1, weights(1), 1)
    assert not files.ship()
    files.close()
    assert set(threading.enumerate()) == before
    assert [list(home.iterdir()) for home in tmp_path.glob("delayline-*")] == [[]]


def weights(step: int) -> dict[str, np.ndarray]:
    """What a checkpoint holds: two layers, one of a type that NumPy lacks, and what is no weight."""
    values = np.random.default_rng(step).normal(step, 1.0, (30, 20))
    return {
        "00000 dense/kernel": values.astype(np.float32),
        "00001 dense/bias": np.arange(5).astype(ml_dtypes.bfloat16),
        "00002 dropout/seed_generator_state": np.array([1, 2], np.uint32),
        "00003 scale": np.float32(1.0).reshape(()),
        "global seed generator": np.array([1, 2], np.uint32),
    }


def histograms(accumulator: EventAccumulator) -> dict[str, list[tuple[int, np.ndarray]]]:
    """(step, buckets of left edge, right edge and count) of each variable."""
    return {
        tag: [(event.step, tensor_util.make_ndarray(event.tensor_proto)) for event in accumulator.Tensors(tag)]
        for tag in accumulator.Tags()["tensors"]
        if tag.startswith("weights/")
    }


def test_weights_are_histograms_of_all_their_values(record: RunRecord, make_files: MakeFiles, tmp_path: Path) -> None:
    files = make_files(1)
    for step in (10, 20):
        files.add_weights(step, weights(step), 20)
    files.finish({}, 20)
    found = histograms(read(record, tmp_path / "read"))
    assert sorted(found) == ["weights/dense/bias", "weights/dense/kernel"]
    for step, buckets in found["weights/dense/kernel"]:
        values = weights(step)["00000 dense/kernel"]
        assert buckets[:, 2].sum() == values.size
        np.testing.assert_allclose([buckets[0, 0], buckets[-1, 1]], [values.min(), values.max()], rtol=1e-6)
        counts, _ = np.histogram(values, np.append(buckets[:, 0], buckets[-1, 1]))
        assert np.abs(counts - buckets[:, 2]).sum() <= 4  # values on an edge
    assert [step for step, _ in found["weights/dense/bias"]] == [10, 20]


def test_a_large_variable_a_deep_network_and_a_long_run_cost_no_more(
    record: RunRecord, make_files: MakeFiles, tmp_path: Path
) -> None:
    files = make_files(1)
    large = np.random.default_rng(0).normal(0, 1, HISTOGRAM_VALUES * 3 + 1).astype(np.float32)
    deep = {f"{number:05d} layer-{number}": np.ones(2, np.float32) for number in range(1, 2 * HISTOGRAM_VARIABLES)}
    steps = HISTOGRAM_STEPS * 10
    for step in range(1, steps + 1):
        files.add_weights(step, {"00000 large": large, **deep} if step == steps else {"00000 large": large[:9]}, steps)
    files.finish({}, steps)
    found = histograms(read(record, tmp_path / "read"))
    assert len(found) == HISTOGRAM_VARIABLES
    seen = [step for step, _ in found["weights/large"]]
    assert seen[0] == 1 and seen[-1] == steps and len(seen) <= HISTOGRAM_STEPS + 2
    assert HISTOGRAM_VALUES / 2 <= found["weights/large"][-1][1][:, 2].sum() <= HISTOGRAM_VALUES


def test_weights_that_are_no_numbers_do_no_harm(record: RunRecord, make_files: MakeFiles, tmp_path: Path) -> None:
    files = make_files(1)
    files.add_weights(1, {"00000 a": np.array([np.nan, 1.0, np.inf, 2.0]), "00001 b": np.full(3, np.nan)}, 1)
    files.finish({}, 1)
    found = histograms(read(record, tmp_path / "read"))
    assert found["weights/a"][0][1][:, 2].sum() == 2 and found["weights/b"][0][1].sum() == 0


def test_after_a_resume_no_step_stands_twice_and_none_is_lost(record: RunRecord, make_files: MakeFiles, tmp_path: Path) -> None:
    numbers = itertools.count(1)

    def attempt(first: int, last: int, history: list[int]) -> None:
        files = make_files(next(numbers))
        files.restart([row(step) for step in history], history[-1] if history else 0)
        files.add_graph(GraphDef(node=[{"name": f"attempt-{first}"}]).SerializeToString())
        for step in range(first, last + 1):
            files.add(row(step))
            files.add_weights(step, weights(step), 8)
            files.ship()

    # The second attempt resumes from step 3 and is killed; the third begins twice, for the first time it was killed at once.
    attempt(1, 5, [])
    attempt(4, 6, [1, 2, 3])
    attempt(7, 6, [1, 2, 3, 4, 5])
    attempt(6, 8, [1, 2, 3, 4, 5])
    accumulator = read(record, tmp_path / "read")
    steps = list(range(1, 9))
    assert [event.step for event in accumulator.Tensors("train/loss")] == steps
    found = histograms(accumulator)
    assert [step for step, _ in found["weights/dense/kernel"]] == steps
    for step, buckets in found["weights/dense/kernel"]:
        assert buckets[0, 0] == pytest.approx(weights(step)["00000 dense/kernel"].min())
    assert [node.name for node in accumulator.Graph().node] == ["attempt-6"]
    assert len(list(record.store.objects(record.paths.tensorboard_root))) == 1


def test_a_file_that_was_cut_off_costs_its_end_alone(record: RunRecord, make_files: MakeFiles, tmp_path: Path) -> None:
    files = make_files(1)
    for step in (1, 2):
        files.add_weights(step, weights(step), 4)
    files.ship()
    (info,) = record.store.objects(record.paths.tensorboard_root)
    record.store.write(info.key, record.store.read(info.key)[:-7])
    record.store.write(f"{record.paths.tensorboard_root}other", b"no events at all")
    again = make_files(2)
    again.restart([], 2)
    again.add_weights(3, weights(3), 4)
    again.finish({}, 3)
    found = histograms(read(record, tmp_path / "read"))
    assert [step for step, _ in found["weights/dense/kernel"]] == [1, 2, 3]
    assert [step for step, _ in found["weights/dense/bias"]] == [1, 3]


def test_a_graph_that_is_too_large_is_left_out(record: RunRecord, make_files: MakeFiles, tmp_path: Path) -> None:
    files = make_files(1)
    files.add_graph(bytes(GRAPH_BYTES + 1))
    files.finish({}, 1)
    assert not read(record, tmp_path / "read").Tags()["graph"]


def test_a_long_run_is_copied_once_and_not_with_each_checkpoint(
    record: RunRecord, make_files: MakeFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[int] = []
    upload = record.store.upload
    monkeypatch.setattr(
        record.store, "upload", lambda file, key, **more: (copied.append(file.stat().st_size), upload(file, key, **more))[1]
    )
    files = make_files(1)
    for step in range(1, 401):
        for _ in range(10):
            files.add(row(step, accuracy=0.5, val_loss=0.25))
        files.ship()
    files.finish({}, 400)
    total = sum(len(record.store.read(key)) for key in record.tensorboard())
    assert len(record.tensorboard()) > 2
    # Each copy is at most the open file and what came since the last one.
    assert max(copied) < FILE_BYTES + 2 * total / 400
    assert sum(copied) <= total + len(copied) * FILE_BYTES
    assert len(curves(record, tmp_path / "read")["train/loss"]) == 4000


def test_a_stale_attempt_takes_nothing_from_the_one_after_it(record: RunRecord, make_files: MakeFiles, tmp_path: Path) -> None:
    new, stale = make_files(2), make_files(1)
    new.restart([], 0)
    new.add(row(1))
    new.ship()
    stale.restart([row(7)], 7)
    stale.finish({}, 7)
    assert curves(record, tmp_path / "read")["train/loss"] == [(1, 1.0)]


def test_a_run_of_the_first_format_keeps_its_histograms_when_it_resumes(
    record: RunRecord, make_files: MakeFiles, tmp_path: Path
) -> None:
    files = make_files(1)
    files.add_weights(1, weights(1), 2)
    files.ship()
    (key,) = record.tensorboard()
    record.store.write(record.paths.tensorboard_root + key.rpartition("/")[2], record.store.read(key))
    record.store.delete(key)
    assert len(record.tensorboard()) == 1
    again = make_files(2)
    again.restart([], 1)
    again.add_weights(2, weights(2), 2)
    again.finish({}, 2)
    found = histograms(read(record, tmp_path / "read"))
    assert [step for step, _ in found["weights/dense/kernel"]] == [1, 2]
    assert {key.split("/")[-2] for key in record.tensorboard()} == {"0002"}
