"""A spec's arrays, out of the node's cache."""

from pathlib import Path

import numpy as np
import pytest

from jobs.datasets.load import Arrays, load_arrays
from service.datasets import find_dataset
from service.datasets.importer import import_dataset
from service.errors import BadData, Damaged, UnknownName
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage import open_store
from service.storage.base import Store

CACHE_BYTES = 10**8


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Settings.load(store=str(tmp_path / "store")))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def spec(dataset: str) -> TrainSpec:
    return TrainSpec(model="dense", dataset=dataset, epochs=1)


def imported(store: Store, folder: Path, seed: int, train: int = 30, test: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {
        "x_train": rng.integers(0, 256, (train, 4, 5, 1), np.uint8),
        "y_train": np.arange(train) % 3,
        "x_test": rng.integers(0, 256, (test, 4, 5, 1), np.uint8),
        "y_test": np.arange(test) % 3,
    }
    file = folder / f"{seed}.npz"
    np.savez(file, **arrays)
    import_dataset(store, "tiny", str(file), "npz")
    return arrays


def check(arrays: Arrays, wanted: dict[str, np.ndarray]) -> None:
    for split, columns, labels in (
        ("train", arrays.train, arrays.train_labels),
        ("test", arrays.test, arrays.test_labels),
    ):
        (images,) = columns.values()
        assert images.dtype == np.uint8
        assert labels.dtype == np.int32
        assert (images == wanted[f"x_{split}"]).all()
        assert (labels == wanted[f"y_{split}"]).all()


def test_the_embedded_digits_need_no_store(store: Store, cache: Path) -> None:
    arrays = load_arrays(spec("digits"), store, None, cache, CACHE_BYTES)
    assert (len(arrays.train_labels), len(arrays.test_labels)) == (1437, 360)
    assert arrays.input_shape == (8, 8, 1)
    assert arrays.classes == tuple("0123456789")
    assert arrays.train["image"].max() <= arrays.features[0].scale == 16


def test_an_imported_dataset_comes_out_as_it_went_in_and_the_second_time_from_the_cache(
    store: Store, cache: Path, tmp_path: Path
) -> None:
    wanted = imported(store, tmp_path, 1)
    check(load_arrays(spec("tiny"), store, None, cache, CACHE_BYTES), wanted)
    manifest = find_dataset(store, "tiny")
    for shard in manifest.shards:
        store.delete(shard.key)
    check(load_arrays(spec("tiny"), store, None, cache, CACHE_BYTES), wanted)


def test_a_run_keeps_the_version_that_it_began_with(store: Store, cache: Path, tmp_path: Path) -> None:
    old = imported(store, tmp_path, 1)
    version = find_dataset(store, "tiny").version
    new = imported(store, tmp_path, 2)
    check(load_arrays(spec("tiny"), store, version, cache, CACHE_BYTES), old)
    check(load_arrays(spec("tiny"), store, None, cache, CACHE_BYTES), new)
    check(load_arrays(spec(f"tiny@{version}"), store, "another", cache, CACHE_BYTES), old)


def test_a_damaged_shard_is_not_trained_on(store: Store, cache: Path, tmp_path: Path) -> None:
    imported(store, tmp_path, 1)
    key = find_dataset(store, "tiny").shards[0].key
    data = bytearray(store.read(key))
    data[len(data) // 2] ^= 1
    store.write(key, bytes(data))
    with pytest.raises(Damaged, match=key):
        load_arrays(spec("tiny"), store, None, cache, CACHE_BYTES)


def test_a_dataset_that_is_not_there_is_named_with_those_that_are(store: Store, cache: Path) -> None:
    with pytest.raises(UnknownName, match=r"There is no dataset 'tiny'.*digits"):
        load_arrays(spec("tiny"), store, None, cache, CACHE_BYTES)


def test_a_split_without_examples_is_a_fault_of_the_data(store: Store, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(BadData):
        imported(store, tmp_path, 1, test=0)
        load_arrays(spec("tiny"), store, None, cache, CACHE_BYTES)
