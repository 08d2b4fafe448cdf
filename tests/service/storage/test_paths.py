"""Keys of a run: what two attempts write, or two runs that had one id, never meets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.records.run_record import RunRecord
from service.records.submission_schemas import Origin
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.storage.json_documents import rows_to_bytes
from service.storage.paths import RunPaths, attempt_label, new_nonce, number_of

SPEC = TrainSpec(model="cnn", dataset="digits", epochs=1)
NONCES = st.just("") | st.text("0123456789abcdef", min_size=8, max_size=8)


@given(st.integers(0, 10**6), NONCES, NONCES)
def test_a_label_is_read_by_the_run_that_wrote_it_alone(number: int, nonce: str, other: str) -> None:
    paths, label = RunPaths("a-run"), attempt_label(number, nonce)
    names = [
        paths.events(label, "driver").removeprefix(paths.events_root),
        paths.events(label, "rank-0").removeprefix(paths.events_root),
        paths.log(label, 3).removeprefix(paths.logs),
        paths.driver_log(label).removeprefix(paths.logs),
        label,
    ]
    assert {number_of(name, nonce) for name in names} == {number}
    if other != nonce:
        assert {number_of(name, other) for name in names} == {None}


@pytest.mark.parametrize(
    ("name", "number"),
    [("0002-driver.jsonl", 2), ("0001-submit-1795894164.jsonl", 1), ("12/rank-0.log", 12), ("1/driver.log", 1),
     ("supervisor.log", None), ("0001x", None), ("", None)],
)  # fmt: skip
def test_names_of_the_first_format_have_the_number_alone(name: str, number: int | None) -> None:
    assert number_of(name, "") == number


def test_two_claims_of_one_id_draw_two_nonces(local_store: Store) -> None:
    first, second = RunRecord(local_store, "one"), RunRecord(local_store, "one")
    assert first.claim(SPEC)
    local_store.delete(first.paths.spec)
    assert second.claim(SPEC)
    assert len(first.nonce) == 8
    assert first.nonce != second.nonce
    assert RunRecord(local_store, "one").nonce == second.nonce
    assert first.label(3) == f"0003-{first.nonce}"
    assert new_nonce() != new_nonce()


def test_a_changed_spec_is_of_the_same_run(local_store: Store) -> None:
    record = RunRecord(local_store, "one")
    record.claim(SPEC)
    RunRecord(local_store, "one").replace_spec(SPEC, Origin(params={}))
    assert RunRecord(local_store, "one").nonce == record.nonce


def test_a_record_keeps_the_nonce_that_it_saw_first(local_store: Store) -> None:
    old = RunRecord(local_store, "one")
    old.claim(SPEC)
    zombie = RunRecord(local_store, "one")
    zombie.submission()
    local_store.delete(old.paths.spec)
    RunRecord(local_store, "one").claim(SPEC)
    zombie.submission()
    assert zombie.nonce == old.nonce


def test_events_that_a_zombie_writes_behind_a_deletion_are_not_those_of_the_next_run(local_store: Store) -> None:
    zombie = RunRecord(local_store, "one")
    zombie.claim(SPEC)
    local_store.delete_prefix(zombie.paths.root)
    RunRecord(local_store, "one").claim(SPEC)
    local_store.write(zombie.paths.events(zombie.label(1), "driver"), rows_to_bytes([{"time": 1.0, "event": "late"}]))
    assert RunRecord(local_store, "one").events() == []
    assert [row.event for row in zombie.events()] == ["late"]
