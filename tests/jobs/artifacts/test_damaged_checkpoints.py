"""Checkpoints of which a byte, a file or the manifest is damaged: that is noticed, and the one before is loaded."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.saved_checkpoints import FILES, checkpoints, flip, never, path_of, snapshot

from service.errors import Damaged, StoreError
from service.records.checkpoint_index import MANIFEST
from service.specs.parts import CheckpointPolicy
from service.storage.base import Store
from service.storage.json_documents import from_bytes, to_bytes


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_noticed_and_the_one_before_is_loaded(store: Store, name: str) -> None:
    for step in (10, 20, 30):
        checkpoints(store).save(snapshot(step))
    for step in (20, 30):
        flip(store, step, name)
    with pytest.raises(Damaged, match=name):
        checkpoints(store).load(30)
    seen: list[tuple[int, str]] = []
    newest = checkpoints(store).load_newest(lambda step, why: seen.append((step, why)))
    assert newest is not None
    assert newest.step == 10
    assert [step for step, _ in seen] == [30, 20]
    assert all(name in why for _, why in seen)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(name=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_gives_another_snapshot(store: Store, name: str, place: float, bit: int) -> None:
    saved = snapshot(10, 0.25)
    checkpoints(store).save(saved)
    key = path_of(store, 10) + name
    data = bytearray(store.read(key))
    data[int(place * len(data))] ^= 1 << bit
    store.write(key, bytes(data))
    try:
        loaded = checkpoints(store).load(10)
    except Damaged:
        return
    assert name == MANIFEST
    assert (loaded.epoch, loaded.score, loaded.history, loaded.position) == (1, 0.25, saved.history, saved.position)


@pytest.mark.parametrize("name", FILES[:3])
@pytest.mark.parametrize("how", ["cut off", "missing", "of another step"])
def test_a_file_that_is_not_the_one_that_was_written_is_noticed(store: Store, name: str, how: str) -> None:
    for step in (10, 20):
        checkpoints(store).save(snapshot(step))
    key = path_of(store, 20) + name
    if how == "cut off":
        store.write(key, store.read(key)[:-1])
    elif how == "missing":
        store.delete(key)
    else:
        store.write(key, store.read(path_of(store, 10) + name))
    seen: list[int] = []
    newest = checkpoints(store).load_newest(lambda step, why: seen.append(step))
    assert newest is not None
    assert (newest.step, seen) == (10, [20])


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": 1}', b'{"format": 2, "files": {}, "step": 20}', b"\xff\xfe"])
def test_a_manifest_that_is_none_is_noticed(store: Store, content: bytes) -> None:
    for step in (10, 20):
        checkpoints(store).save(snapshot(step, 1.0))
    store.write(path_of(store, 20) + MANIFEST, content)
    seen: list[int] = []
    newest = checkpoints(store).load_newest(lambda step, why: seen.append(step))
    assert newest is not None
    assert (newest.step, seen) == (10, [20])


@pytest.mark.parametrize(
    "change",
    [
        {"files": {}},
        {"files": {"model.safetensors": {}}},
        {"epoch": 5},
        {"score": 0.5},
        {"position": {"seconds": 1}},
        {"sha256": None},
    ],
)
def test_a_manifest_that_was_changed_is_noticed(store: Store, change: dict[str, Any]) -> None:
    checkpoints(store).save(snapshot(10))
    key = path_of(store, 10) + MANIFEST
    store.write(key, to_bytes({**from_bytes(store.read(key), key), **change}))
    with pytest.raises(Damaged, match=key):
        checkpoints(store).load(10)


def test_without_its_manifest_a_checkpoint_is_none(store: Store) -> None:
    for step in (10, 20):
        checkpoints(store).save(snapshot(step))
    store.delete(path_of(store, 20) + MANIFEST)
    seen: list[int] = []
    newest = checkpoints(store).load_newest(lambda step, why: seen.append(step))
    assert newest is not None
    assert (newest.step, seen) == (10, [20])


def test_a_store_that_cannot_be_read_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints(store).save(snapshot(10))

    def refuse(key: str) -> bytes:
        raise StoreError("no permission")

    monkeypatch.setattr(store, "read", refuse)
    with pytest.raises(StoreError, match="no permission"):
        checkpoints(store).load_newest(never)


def test_a_half_deleted_checkpoint_is_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = checkpoints(store, CheckpointPolicy(every_steps=1, keep_last=1, keep_best=0))
    made.save(snapshot(10))

    def crash(prefix: str) -> int:
        raise StoreError("crashed")

    monkeypatch.setattr(store, "delete_prefix", crash)
    with pytest.raises(StoreError, match="crashed"):
        made.save(snapshot(20))
    monkeypatch.undo()
    assert {info.key.rsplit("/", 1)[1] for info in store.objects(path_of(store, 10))} == set(FILES) - {MANIFEST}
    newest = checkpoints(store).load_newest(never)
    assert newest is not None
    assert newest.step == 20
