"""TensorBoard's files, read by TensorBoard's own reader."""

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from jobs.tensorboard_files import TensorBoardFiles
from service.errors import StoreError
from service.storage.local import LocalStore
from service.storage.records import RunRecord


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return RunRecord(LocalStore(tmp_path / "store"), "a-run")


def curves(record: RunRecord, folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each tag in the store's files."""
    folder.mkdir()
    for info in record.store.list(record.paths.tensorboard):
        record.store.download(info.key, folder / info.key.rsplit("/", 1)[1])
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    tags = accumulator.Tags()["tensors"]
    return {
        tag: [(event.step, round(float(tensor_util.make_ndarray(event.tensor_proto)), 4)) for event in accumulator.Tensors(tag)]
        for tag in tags
    }


def row(step: int, **values: float) -> dict[str, Any]:
    return {"epoch": 1, "step": step, "time": 1.0, "loss": 1 / step, "learning_rate": 0.5, **values}


def test_each_metric_is_a_curve_in_its_group(record: RunRecord, tmp_path: Path) -> None:
    files = TensorBoardFiles(record)
    files.restart([], 0)
    files.add(row(1, accuracy=0.25))
    files.add(row(2, val_loss=0.5, val_accuracy=0.75))
    files.close({"test_accuracy": 0.9, "loss": 3.0}, 2)
    assert curves(record, tmp_path / "read") == {
        "train/loss": [(1, 1.0), (2, 0.5)],
        "train/learning_rate": [(1, 0.5), (2, 0.5)],
        "train/accuracy": [(1, 0.25)],
        "validation/loss": [(2, 0.5)],
        "validation/accuracy": [(2, 0.75)],
        "test/accuracy": [(2, 0.9)],
    }


def test_a_shipped_file_holds_all_rows_so_far(record: RunRecord, tmp_path: Path) -> None:
    files = TensorBoardFiles(record)
    files.add(row(1))
    files.ship()
    assert curves(record, tmp_path / "first")["train/loss"] == [(1, 1.0)]
    files.add(row(2))
    files.ship()
    assert curves(record, tmp_path / "second")["train/loss"] == [(1, 1.0), (2, 0.5)]
    files.close({}, 2)


def test_another_attempt_begins_with_its_checkpoints_rows_and_drops_later_ones(record: RunRecord, tmp_path: Path) -> None:
    first = TensorBoardFiles(record)
    for step in (1, 2, 4):
        first.add(row(step))
    first.ship()
    second = TensorBoardFiles(record)
    second.restart([row(1), row(2)], 2)
    second.add(row(4, loss=7.0))
    second.close({}, 4)
    assert curves(record, tmp_path / "read")["train/loss"] == [(1, 1.0), (2, 0.5), (4, 7.0)]
    assert len(list(record.store.list(record.paths.tensorboard))) == 1


def test_a_store_that_refuses_costs_the_curves_and_not_the_run(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> str:
        raise StoreError("no space")

    files = TensorBoardFiles(record)
    files.add(row(1))
    monkeypatch.setattr(record.store, "upload", refuse)
    files.ship()
    files.close({}, 1)
