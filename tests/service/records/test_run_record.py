"""A run's documents: claimed once, read by anyone at any time."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Damaged, UnknownName
from service.records.run_record import RunRecord
from service.records.schemas import ProgressDocument, StateDocument
from service.records.submission_schemas import Origin
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage import open_store
from service.storage.base import Store
from service.storage.json_documents import from_bytes, rows_from_bytes, rows_to_bytes, to_bytes

SPEC = TrainSpec(model="cnn", dataset="digits", epochs=1)
ORIGIN = Origin(recipe="cnn-digits")


@pytest.fixture
def record(local_store: Store) -> RunRecord:
    return RunRecord(local_store, "one")


def test_a_run_is_claimed_once(record: RunRecord) -> None:
    assert record.claim(SPEC, ORIGIN)
    assert not RunRecord(record.store, "one").claim(SPEC.model_copy(update={"epochs": 9}), ORIGIN)
    assert record.spec() == SPEC and record.submission().recipe == "cnn-digits"


def test_of_many_claims_at_once_one_succeeds(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def claim(number: int) -> bool:
        record = RunRecord(open_store(Settings.load(store=str(tmp_path / "store"))), "one")
        barrier.wait(30)
        return record.claim(SPEC, Origin(point=number))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(8))) == 1


def test_an_unknown_run_is_named(record: RunRecord) -> None:
    with pytest.raises(UnknownName, match=r"no run 'one' in .*runs list") as caught:
        record.submission()
    assert caught.value.exit_code == 2


def test_documents_that_were_not_written_yet_are_empty(record: RunRecord) -> None:
    assert record.state().state == "queued"
    assert (
        record.lease() is None
        and record.progress() == ProgressDocument()
        and record.metric_rows() == record.events() == record.checkpoints() == []
    )
    assert not record.cancel_requested()


def test_documents_come_back(record: RunRecord) -> None:
    record.write_state(StateDocument(state="running", attempts=[], error=None))
    record.write_progress(ProgressDocument(step=3))
    record.write_history([{"step": 1}, {"step": 2, "loss": 0.5}])
    assert record.state().state == "running" and record.progress().step == 3
    assert record.metric_rows() == [{"step": 1}, {"step": 2, "loss": 0.5}]
    assert [(row.step, row.value("loss"), row.metrics) for row in record.history()] == [(1, None, {}), (2, 0.5, {"loss": 0.5})]


def test_a_row_of_metrics_that_does_not_fit_is_damage_with_its_part_and_the_field(record: RunRecord) -> None:
    record.write_history([{"step": 1}, {"loss": 0.5}])
    (part,) = (info.key for info in record.store.objects(record.paths.metrics_root))
    with pytest.raises(Damaged, match=f"{re.escape(part)} is not as Delayline writes it: step is missing"):
        record.history()


def test_events_of_all_writers_are_in_order_of_time(record: RunRecord) -> None:
    for attempt, writer, times in ((1, "driver", [1.0, 4.0]), (1, "rank-0", [2.0, 3.0]), (2, "driver", [0.5])):
        rows = [{"time": moment, "event": writer} for moment in times]
        record.store.write(record.paths.events(record.label(attempt), writer), rows_to_bytes(rows))
    assert [row.time for row in record.events()] == [0.5, 1.0, 2.0, 3.0, 4.0]


def test_only_complete_checkpoints_count(record: RunRecord) -> None:
    for step, name in ((200, "manifest.json"), (30, "manifest.json"), (300, "part-0")):
        record.store.write(record.paths.checkpoint(f"{step:010d}") + name, b"{}")
    assert [checkpoint.step for checkpoint in record.checkpoints()] == [30, 200]


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]", b'"text"', b"{}", b'{"format": 2}'])
def test_a_document_that_is_none_is_damaged(record: RunRecord, data: bytes) -> None:
    record.store.write(record.paths.state, data)
    with pytest.raises(Damaged, match=r"runs/one/state.json") as caught:
        record.state()
    assert caught.value.exit_code == 5


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3), max_size=5), st.data())
def test_rows_survive_a_cut(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    written = rows_to_bytes(rows)
    assert rows_from_bytes(written) == rows
    cut = rows_from_bytes(written[: data.draw(st.integers(0, len(written)))])
    assert cut == rows[: len(cut)]


@given(
    st.dictionaries(st.text(max_size=5).filter(lambda name: name != "format"), st.floats(allow_nan=False, allow_infinity=False))
)
def test_documents_are_json(document: dict[str, Any]) -> None:
    assert from_bytes(to_bytes(document), "key") == {"format": 1, **document}


def test_a_nan_is_never_written() -> None:
    with pytest.raises(ValueError):
        to_bytes({"loss": float("nan")})
