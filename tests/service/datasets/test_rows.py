"""Rows by number, out of shards that are fetched when they are needed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.datasets_in_a_store import flip_a_byte, make_dataset

from service.datasets import Manifest
from service.datasets.cache import Cache
from service.datasets.load import load_split
from service.datasets.rows import ShardRows
from service.errors import Damaged
from service.settings import Settings
from service.storage import open_store
from service.storage.base import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Settings.load(store=str(tmp_path / "store")))


def opened(store: Store, manifest: Manifest, folder: Path, limit: int = 10**8) -> ShardRows:
    return ShardRows(store, manifest, "train", Cache(folder, limit))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), seed=st.integers(0, 10**6), data=st.data())
def test_any_rows_are_those_of_the_whole_split(
    store: Store, tmp_path: Path, sizes: list[int], seed: int, data: st.DataObject
) -> None:
    manifest = make_dataset(store, f"d{seed}", sizes, seed=seed)
    whole = load_split(store, manifest, "train", Cache(tmp_path / "whole", 10**8))
    rows = opened(store, manifest, tmp_path / "shards")
    assert len(rows) == sum(sizes)
    wanted = np.array(data.draw(st.lists(st.integers(0, sum(sizes) - 1), max_size=30)), np.int64)
    taken = rows.take(wanted)
    assert sorted(taken) == sorted(whole)
    for name, array in whole.items():
        assert taken[name].dtype == array.dtype
        assert taken[name].tobytes() == array[wanted].tobytes()
    rows.close()


def test_a_shard_is_fetched_when_it_is_needed_and_once(store: Store, tmp_path: Path) -> None:
    manifest = make_dataset(store, "three", [4, 4, 4])
    rows = opened(store, manifest, tmp_path / "cache")
    before = rows.take(np.array([5, 1]))
    for shard in manifest.shards:
        store.delete(shard.key)
    again = opened(store, manifest, tmp_path / "cache").take(np.array([5, 1]))
    assert all(before[name].tobytes() == again[name].tobytes() for name in before)
    with pytest.raises(Damaged, match="missing"):
        rows.take(np.array([9]))


def test_a_damaged_shard_is_named_each_time_and_the_others_are_read(store: Store, tmp_path: Path) -> None:
    manifest = make_dataset(store, "damaged", [4, 4])
    flip_a_byte(store, manifest.shards[1].key)
    rows = opened(store, manifest, tmp_path / "cache")
    rows.prefetch([0, 1])
    for _ in range(2):
        with pytest.raises(Damaged, match=manifest.shards[1].key):
            rows.take(np.array([0, 4]))
    assert len(rows.take(np.arange(4))["label"]) == 4


def test_a_cache_that_is_too_small_for_the_split_drops_what_was_read_long_ago(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.datasets.rows.OPEN_SHARDS", 4)
    manifest = make_dataset(store, "large", [40] * 12)
    whole = load_split(store, manifest, "train", Cache(tmp_path / "whole", 10**8))
    rows = opened(store, manifest, tmp_path / "cache", limit=1)
    for order in (np.arange(480), np.random.default_rng(0).permutation(480)):
        assert rows.take(order)["track"].tobytes() == whole["track"][order].tobytes()
    rows.close()
    # What is still mapped is never dropped.
    assert len(list((tmp_path / "cache").glob("*/entry.json"))) <= 4 + 1
