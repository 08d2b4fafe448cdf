"""Rows of metrics in parts: none is lost or stands twice, an attempt that is over changes nothing, and each row costs the same."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import Damaged, LeaseLost
from service.records.metrics import SEAL_BYTES, MetricsLedger, read_sealed
from service.records.run_record import RunRecord
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.storage.json_documents import rows_to_bytes
from service.storage.local import LocalStore

SPEC = TrainSpec(model="cnn", dataset="digits", epochs=1)


@pytest.fixture
def record(store: Store) -> RunRecord:
    made = RunRecord(store, "a-run")
    assert made.claim(SPEC)
    return made


def row(step: int, whose: int = 1, size: int = 0) -> dict[str, Any]:
    return {"step": step, "whose": whose, "loss": 1 / 3, **({"text": "x" * size} if size else {})}


def ledger(record: RunRecord, number: int) -> MetricsLedger:
    own = RunRecord(record.store, record.run_id, record.nonce)
    return own.metrics_ledger(own.label(number))


def steps(record: RunRecord) -> list[int]:
    return [each["step"] for each in RunRecord(record.store, record.run_id).metric_rows()]


def test_rows_are_read_as_they_were_written_open_and_sealed(record: RunRecord) -> None:
    made, rows = ledger(record, 1), [row(step, size=900) for step in range(50)]
    for each in rows:
        made.add(each)
        made.flush()
    assert record.metric_rows() == rows
    parts = list(record.store.objects(record.paths.metrics_root))
    assert len(parts) == 3
    assert all(part.size >= SEAL_BYTES for part in parts[:-1])
    made.flush()
    assert record.metric_rows() == rows


def test_rows_cost_a_multiple_of_their_bytes_and_not_their_square(tmp_path_factory: pytest.TempPathFactory) -> None:
    def cost(count: int) -> tuple[int, int]:
        record = RunRecord(LocalStore(tmp_path_factory.mktemp("store")), "a-run")
        written: list[int] = []
        write = record.store.write
        record.store.write = lambda key, data, **more: (written.append(len(data)), write(key, data, **more))[1]  # type: ignore[method-assign]
        made = ledger(record, 1)
        for step in range(count):
            made.add(row(step, size=400))
            made.flush()
        return sum(written), len(written)

    (half, _), (whole, writes) = cost(800), cost(1_600)
    assert whole < 2.2 * half
    assert whole < 1_600 * (SEAL_BYTES + 2_000) / 1.5
    assert writes < 1_600 * 1.1


def test_a_sealed_part_is_never_written_again(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ledger(record, 1)
    sealed: set[str] = set()
    write = record.store.write

    def watched(key: str, data: bytes, **more: Any) -> str:
        assert key not in sealed
        return write(key, data, **more)

    monkeypatch.setattr(record.store, "write", watched)
    for step in range(200):
        made.add(row(step, size=700))
        made.flush()
        sealed |= {key for segment in made.reference(step + 1) for key in segment.keys(record.paths)}
    assert len(sealed) > 5


def test_an_attempt_resumes_from_what_its_checkpoint_refers_to(record: RunRecord) -> None:
    first, rows = ledger(record, 1), [row(step, size=900) for step in range(60)]
    for each in rows:
        first.add(each)
        first.flush()
    # The checkpoint was saved with 45 rows; those after it were written and are given up.
    sealed = first.reference(45)
    covered = sum(segment.rows for segment in sealed)
    assert 30 < covered <= 45
    assert read_sealed(record.store, record.paths, sealed) == rows[:covered]
    second = ledger(record, 2)
    second.restart(sealed, rows[:45])
    second.flush()
    assert record.metric_rows() == rows[:45]
    for step in range(45, 70):
        second.add(row(step, 2, 900))
        second.flush()
        first.add(row(step, 1, 900))
        with pytest.raises(LeaseLost):
            for _ in range(40):
                first.add(row(step, 1, 900))
                first.flush()
        assert record.metric_rows() == [*rows[:45], *(row(each, 2, 900) for each in range(45, step + 1))]
    again = second.reference(70)
    assert sum(segment.rows for segment in again) > 45
    third = ledger(record, 3)
    third.restart(again, record.metric_rows())
    third.add(row(70, 3))
    third.flush()
    assert steps(record) == list(range(71))
    # What does not count is gone.
    assert {info.key for info in record.store.objects(record.paths.metrics_root)} >= {
        key for s in again for key in s.keys(record.paths)
    }
    assert not [info.key for info in record.store.objects(record.paths.metrics_root) if "/0002" in info.key and info.key not in
                {key for s in again for key in s.keys(record.paths)}]  # fmt: skip


def test_a_stale_attempt_cannot_begin(record: RunRecord) -> None:
    new, old = ledger(record, 2), ledger(record, 1)
    new.add(row(1, 2))
    new.flush()
    old.restart([], [row(9)])
    with pytest.raises(LeaseLost):
        old.flush()
    assert record.metric_rows() == [row(1, 2)]


def test_rows_of_a_deleted_run_are_not_the_next_ones(record: RunRecord) -> None:
    zombie = ledger(record, 1)
    zombie.add(row(1))
    zombie.flush()
    record.store.delete_prefix(record.paths.root)
    again = RunRecord(record.store, "a-run")
    assert again.claim(SPEC)
    zombie.add(row(2))
    zombie.flush()
    late = ledger(record, 2)
    late.add(row(3))
    with pytest.raises(LeaseLost):
        late.flush()
    assert again.metric_rows() == []
    own = ledger(again, 1)
    own.add(row(1, 7))
    own.flush()
    assert again.metric_rows() == [row(1, 7)]


def test_a_part_that_is_missing_or_changed_is_said(record: RunRecord) -> None:
    made = ledger(record, 1)
    for step in range(40):
        made.add(row(step, size=900))
    made.flush()
    (segment,) = made.reference(40)
    (key,) = segment.keys(record.paths)
    data = record.store.read(key)
    record.store.write(key, data.replace(b"xxx", b"yyy", 1))
    with pytest.raises(Damaged, match="not those that the checkpoint was saved with"):
        read_sealed(record.store, record.paths, [segment])
    record.store.delete(key)
    with pytest.raises(Damaged, match="is missing"):
        record.metric_rows()


def test_rows_of_the_first_format_are_read_and_continued(record: RunRecord) -> None:
    rows = [row(step) for step in range(5)]
    record.store.write(record.paths.metrics, rows_to_bytes(rows))
    assert record.metric_rows() == rows
    made = ledger(record, 2)
    made.restart([], rows[:3])
    made.add(row(3, 2))
    made.flush()
    assert record.metric_rows() == [*rows[:3], row(3, 2)]
    assert not record.store.exists(record.paths.metrics)


def test_rows_that_are_replaced_keep_the_parts_that_they_begin_with(record: RunRecord) -> None:
    made, rows = ledger(record, 1), [row(step, size=900) for step in range(60)]
    for each in rows:
        made.add(each)
        made.flush()
    (before,) = made.reference(40)
    record.write_history(rows[:45], record.label(2))
    assert record.metric_rows() == rows[:45]
    assert read_sealed(record.store, record.paths, [before]) == rows[: before.rows]


ACTIONS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["begin", "add", "add", "flush", "checkpoint"]), st.integers(0, 12_000)),
    max_size=25,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
def test_in_any_order_a_run_resumes_from_its_checkpoint_alone(tmp_path_factory: pytest.TempPathFactory, actions: Any) -> None:
    record = RunRecord(LocalStore(tmp_path_factory.mktemp("store")), "a-run")
    record.claim(SPEC)
    ledgers = [ledger(record, number + 1) for number in range(3)]
    saved: tuple[Any, list[Any]] = ([], [])
    rows: dict[int, list[Any]] = {}
    owner = -1

    def unless_stale(number: int, do: Callable[[], None]) -> None:
        if number < owner:
            try:
                do()
            except LeaseLost:
                del rows[number]
        else:
            do()

    for number, what, size in actions:
        made = ledgers[number]
        if what == "begin" and number >= owner and number not in rows:
            owner = number
            made.restart(*saved)
            rows[number] = list(saved[1])
            made.flush()
        elif number in rows and what == "add":
            rows[number].append(row(len(rows[number]), number, size))
            made.add(rows[number][-1])
        elif number in rows and what == "flush":
            unless_stale(number, made.flush)
        elif number == owner and what == "checkpoint":
            sealed = made.reference(len(rows[number]))
            assert read_sealed(record.store, record.paths, sealed) == rows[number][: sum(each.rows for each in sealed)]
            saved = (sealed, list(rows[number]))
        if owner >= 0 and what == "flush" and number == owner:
            assert record.metric_rows() == rows[owner]
    if owner >= 0:
        # Whatever the others did meanwhile, the checkpoint can still be resumed from.
        assert read_sealed(record.store, record.paths, saved[0]) == saved[1][: sum(each.rows for each in saved[0])]
