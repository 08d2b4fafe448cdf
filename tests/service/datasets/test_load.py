"""From the store to arrays: every byte as it was imported, or an error."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.datasets import importer
from service.datasets.cache import Cache
from service.datasets.catalogue import DIGITS
from service.datasets.importer import import_dataset
from service.datasets.load import load_split, verify_dataset
from service.datasets.manifest import Manifest
from service.errors import Damaged, NotFound, StoreUnreachable
from service.storage.base import Store

Arrays = dict[str, NDArray[Any]]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 2**30)


@pytest.fixture
def sharded(local_store: Store, npz_arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Two rows a shard."""
    monkeypatch.setattr(importer, "rows_per_shard", lambda _: 2)
    np.savez(tmp_path / "small.npz", **npz_arrays)
    return import_dataset(local_store, "small", str(tmp_path / "small.npz"), "npz")


def flip(store: Store, key: str, place: int = -200) -> None:
    data = bytearray(store.read(key))
    data[place] ^= 1
    store.write(key, bytes(data))


def test_arrays_come_back_in_their_order(local_store: Store, sharded: Manifest, npz_arrays: Arrays, cache: Cache) -> None:
    for split in ("train", "test"):
        columns = load_split(local_store, sharded, split, cache)
        np.testing.assert_array_equal(columns["x"], npz_arrays[f"x_{split}"])
        np.testing.assert_array_equal(columns["label"], npz_arrays[f"y_{split}"])
        assert columns["label"].dtype == np.int32 and columns["x"].dtype == np.float32


def test_the_embedded_dataset_needs_no_store(local_store: Store, cache: Cache) -> None:
    columns = load_split(local_store, DIGITS, "train", cache)
    assert columns["image"].shape == (1437, 8, 8, 1) and columns["label"].dtype == np.int32
    assert not cache.folder.exists() and verify_dataset(local_store, DIGITS) == []


@pytest.mark.parametrize("name", ["file", "entry", "a.b", "column-x", "nan"])
def test_features_of_any_valid_name_come_back(local_store: Store, tmp_path: Path, cache: Cache, name: str) -> None:
    arrays = {f"{name}_train": np.arange(3.0), f"{name}_test": np.arange(2.0), "y_train": [0, 1, 0], "y_test": [0, 1]}
    if name == "file":
        arrays["file2_train"], arrays["file2_test"] = np.ones(3), np.ones(2)
    with (tmp_path / "a.npz").open("wb") as file:
        np.savez(file, **{key: np.asarray(value) for key, value in arrays.items() if not key.startswith("file_")})
    if name == "file":
        name = "file2"
    manifest = import_dataset(local_store, "odd", str(tmp_path / "a.npz"), "npz")
    assert set(load_split(local_store, manifest, "train", cache)) == {name, "label"}


def test_a_good_dataset_is_verified(local_store: Store, sharded: Manifest) -> None:
    told: list[int] = []
    assert verify_dataset(local_store, sharded, told.append) == []
    assert sum(told) == sharded.bytes and len(told) == 9


@pytest.mark.parametrize("place", [0, 10, 300, -1, -200])
def test_a_flipped_byte_is_found(local_store: Store, sharded: Manifest, cache: Cache, place: int) -> None:
    key = sharded.shards[4].key
    flip(local_store, key, place)
    (problem,) = verify_dataset(local_store, sharded)
    assert key in problem and "checksum" in problem and "import the dataset again" in problem
    with pytest.raises(Damaged, match="checksum") as caught:
        load_split(local_store, sharded, "train", cache)
    assert key in str(caught.value) and caught.value.exit_code == 5
    assert [path for path in cache.folder.iterdir() if path.is_dir()] == []
    assert len(load_split(local_store, sharded, "test", cache)["x"]) == 5, "the other split is whole"


def test_every_damaged_shard_is_an_error(local_store: Store, sharded: Manifest) -> None:
    flip(local_store, sharded.shards[0].key)
    local_store.write(sharded.shards[1].key, b"")
    local_store.delete(sharded.shards[8].key)
    problems = verify_dataset(local_store, sharded)
    assert len(problems) == 3
    for problem, shard in zip(problems, (sharded.shards[0], sharded.shards[1], sharded.shards[8]), strict=True):
        assert shard.key in problem and problem.endswith("import the dataset again.")


def test_a_missing_shard_is_damage(local_store: Store, sharded: Manifest, cache: Cache) -> None:
    local_store.delete(sharded.shards[2].key)
    with pytest.raises(Damaged, match="missing") as caught:
        load_split(local_store, sharded, "train", cache)
    assert not isinstance(caught.value, NotFound)


def test_an_import_mends_the_damage(local_store: Store, sharded: Manifest, tmp_path: Path, cache: Cache) -> None:
    flip(local_store, sharded.shards[0].key)
    import_dataset(local_store, "small", str(tmp_path / "small.npz"), "npz")
    assert verify_dataset(local_store, sharded) == [] and len(load_split(local_store, sharded, "train", cache)["x"]) == 12


def test_what_is_cached_is_not_read_again(
    local_store: Store, sharded: Manifest, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    lock = threading.Lock()
    read: Callable[[str, memoryview], str] = local_store.read_into

    def count(key: str, target: memoryview) -> str:
        with lock:
            reads.append(key)
        return read(key, target)

    monkeypatch.setattr(local_store, "read_into", count)
    load_split(local_store, sharded, "train", cache)
    assert sorted(reads) == sorted(shard.key for shard in sharded.shards if shard.split == "train")
    load_split(local_store, sharded, "train", Cache(cache.folder, 2**30))
    assert len(reads) == 6


def test_the_cache_serves_the_same_content_under_another_name(
    local_store: Store, sharded: Manifest, tmp_path: Path, cache: Cache
) -> None:
    load_split(local_store, sharded, "train", cache)
    other = import_dataset(local_store, "copy", str(tmp_path / "small.npz"), "npz")
    local_store.delete_prefix("datasets/")
    assert len(load_split(local_store, other, "train", cache)["x"]) == 12


def test_a_store_that_is_away_is_no_damage(
    local_store: Store, sharded: Manifest, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> str:
        raise StoreUnreachable("The store did not answer.")

    monkeypatch.setattr(local_store, "read_into", away)
    with pytest.raises(StoreUnreachable):
        load_split(local_store, sharded, "train", cache)
    with pytest.raises(StoreUnreachable):
        verify_dataset(local_store, sharded)


def test_a_dataset_in_a_bucket_is_imported_verified_and_loaded(
    seaweedfs: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, npz_arrays: Arrays, cache: Cache
) -> None:
    from service.settings import Settings
    from service.storage import open_store

    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    store = open_store(Settings.load(store=f"s3://{seaweedfs.bucket()}/prefix"))
    np.savez(tmp_path / "small.npz", **npz_arrays)
    manifest = import_dataset(store, "small", str(tmp_path / "small.npz"), "npz")
    assert verify_dataset(store, manifest) == []
    np.testing.assert_array_equal(load_split(store, manifest, "train", cache)["x"], npz_arrays["x_train"])
    flip(store, manifest.shards[0].key)
    assert len(verify_dataset(store, manifest)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"features": [{"name": "../x", "dtype": "float32", "shape": [6], "scale": 1}]},
        {"features": [{"name": "x", "dtype": "O", "shape": [6], "scale": 1}]},
        {"features": [{"name": "x", "dtype": "float32", "shape": ["touch", "x"], "scale": 1}]},
        {"features": [{"name": "x", "dtype": "float32", "shape": [-1], "scale": 1}]},
        {"features": [{"name": "x", "dtype": "float32", "shape": [6], "scale": 0}]},
        {"shards": [{"split": "train", "key": 3, "rows": 1, "bytes": 1, "sha256": ""}]},
        {"shards": [{"split": "train", "key": "k", "rows": 1, "bytes": -1, "sha256": ""}]},
        {"classes": [1]},
        {"splits": {"train": 1e999}},
        {"name": ["x"]},
    ],
)
def test_a_manifest_of_other_values_is_damaged(imported: Manifest, change: dict[str, Any]) -> None:
    assert Manifest.from_document(imported.document(), "key") == imported
    with pytest.raises(Damaged, match="key"):
        Manifest.from_document({**imported.document(), **change}, "key")
