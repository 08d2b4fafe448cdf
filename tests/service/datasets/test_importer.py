"""Imports: whole or not at all, the same again without a write, the original split kept."""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.datasets import importer, list_datasets
from service.datasets.catalogue import find_dataset
from service.datasets.choices import Choices
from service.datasets.importer import import_dataset
from service.datasets.manifest import Manifest
from service.errors import Damaged, InvalidInput, StoreError, UnknownName
from service.settings import Settings
from service.storage import open_store
from service.storage.base import Store
from service.storage.json_documents import to_bytes
from service.storage.local import LocalStore
from service.storage.paths import DatasetPaths

Refused = Callable[..., str]
Arrays = dict[str, NDArray[Any]]


class Failing(LocalStore):
    """Takes so many writes and no more."""

    def __init__(self, folder: Path, writes: int) -> None:
        super().__init__(folder)
        self.left = writes
        self.keys: list[str] = []
        self._count = threading.Lock()

    def write(self, key: str, data: bytes, *, if_absent: bool = False, if_version: str | None = None) -> str:
        with self._count:
            if not self.left:
                raise StoreError("The store is full: make room there.")
            self.left -= 1
            self.keys.append(key)
        return super().write(key, data, if_absent=if_absent, if_version=if_version)


@pytest.fixture
def small(tmp_path: Path, npz_arrays: Arrays) -> str:
    np.savez(tmp_path / "small.npz", **npz_arrays)
    return str(tmp_path / "small.npz")


@pytest.fixture
def many_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows a shard: six to train and three to test."""
    monkeypatch.setattr(importer, "rows_per_shard", lambda _: 2)


def test_the_manifest_says_what_is_in_the_store(local_store: Store, small: str, many_shards: None) -> None:
    manifest = import_dataset(local_store, "small", small, "npz")
    assert manifest.splits == {"train": 12, "test": 5} and manifest.classes == ("0", "1", "2")
    assert [shard.rows for shard in manifest.shards] == [2] * 6 + [2, 2, 1]
    for shard in manifest.shards:
        data = local_store.read(shard.key)
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)
    keys = {info.key for info in local_store.objects("")}
    assert keys == {shard.key for shard in manifest.shards} | {f"datasets/small/{manifest.version}/manifest.json"}
    assert find_dataset(local_store, "small") == manifest
    assert find_dataset(local_store, f"small@{manifest.version}") == manifest
    assert manifest.source == small and abs(manifest.imported - time.time()) < 60


@pytest.mark.parametrize("writes", range(10))
def test_an_import_that_fails_leaves_no_dataset_and_can_be_repeated(
    tmp_path: Path, small: str, many_shards: None, writes: int
) -> None:
    folder = tmp_path / "store"
    with pytest.raises(StoreError, match="full"):
        import_dataset(Failing(folder, writes), "small", small, "npz")
    store = LocalStore(folder)
    assert [manifest.name for manifest in list_datasets(store)] == ["bits", "digits"]
    with pytest.raises(UnknownName, match="small"):
        find_dataset(store, "small")
    assert [info.key for info in store.objects("")] == []
    manifest = import_dataset(store, "small", small, "npz")
    assert find_dataset(store, "small") == manifest and len(list(store.objects(""))) == 10


def test_a_failed_import_harms_neither_older_versions_nor_other_datasets(
    tmp_path: Path, small: str, npz_arrays: Arrays, many_shards: None
) -> None:
    store = LocalStore(tmp_path / "store")
    old = import_dataset(store, "small", small, "npz")
    other = import_dataset(store, "small-2", small, "npz")
    np.savez(tmp_path / "new.npz", **{**npz_arrays, "x_train": npz_arrays["x_train"] + 1})
    with pytest.raises(StoreError):
        import_dataset(Failing(tmp_path / "store", 4), "small", str(tmp_path / "new.npz"), "npz")
    assert find_dataset(store, "small") == old and find_dataset(store, "small-2") == other
    assert len(list(store.objects(""))) == 20


def test_the_manifest_is_written_last(tmp_path: Path, small: str, many_shards: None) -> None:
    store = Failing(tmp_path / "store", 100)
    import_dataset(store, "small", small, "npz")
    assert store.keys[-1].endswith("/manifest.json") and sum(key.endswith("/manifest.json") for key in store.keys) == 1


def test_the_same_again_writes_nothing(tmp_path: Path, small: str) -> None:
    first = import_dataset(LocalStore(tmp_path / "store"), "small", small, "npz")
    again = import_dataset(Failing(tmp_path / "store", 0), "small", small, "npz")
    assert again == first


def test_the_same_content_from_elsewhere_is_the_same_version(local_store: Store, tmp_path: Path, npz_arrays: Arrays) -> None:
    np.savez(tmp_path / "a.npz", **npz_arrays)
    np.savez_compressed(tmp_path / "b.npz", **dict(reversed(npz_arrays.items())))
    first, second = (import_dataset(local_store, "small", str(tmp_path / name), "npz") for name in ("a.npz", "b.npz"))
    assert first == second and len(list_datasets(local_store)) == 3


@pytest.mark.parametrize("change", ["value", "label", "order"])
def test_another_content_is_another_version_and_the_newest_counts(
    local_store: Store, tmp_path: Path, npz_arrays: Arrays, change: str
) -> None:
    np.savez(tmp_path / "a.npz", **npz_arrays)
    first = import_dataset(local_store, "small", str(tmp_path / "a.npz"), "npz")
    if change == "order":
        npz_arrays["x_train"] = npz_arrays["x_train"][::-1]
    else:
        npz_arrays["x_train" if change == "value" else "y_train"].reshape(-1)[5] = 1 if change == "value" else 0
    np.savez(tmp_path / "b.npz", **npz_arrays)
    second = import_dataset(local_store, "small", str(tmp_path / "b.npz"), "npz")
    assert first.version != second.version and find_dataset(local_store, "small") == second
    assert [m.version for m in list_datasets(local_store) if m.name == "small"] == [second.version, first.version]
    again = import_dataset(local_store, "small", str(tmp_path / "a.npz"), "npz")
    assert again.version == first.version and find_dataset(local_store, "small").version == first.version


def test_a_shard_that_was_lost_is_written_again(local_store: Store, small: str, many_shards: None) -> None:
    manifest = import_dataset(local_store, "small", small, "npz")
    local_store.delete(manifest.shards[3].key)
    local_store.write(manifest.shards[0].key, b"short")
    assert import_dataset(local_store, "small", small, "npz").shards == manifest.shards
    assert all(hashlib.sha256(local_store.read(s.key)).hexdigest() == s.sha256 for s in manifest.shards)


def test_a_shard_of_other_bytes_is_mended_by_an_import(local_store: Store, small: str) -> None:
    manifest = import_dataset(local_store, "small", small, "npz")
    data = bytearray(local_store.read(manifest.shards[0].key))
    data[100] ^= 0xFF
    local_store.write(manifest.shards[0].key, bytes(data))
    import_dataset(local_store, "small", small, "npz")
    assert hashlib.sha256(local_store.read(manifest.shards[0].key)).hexdigest() == manifest.shards[0].sha256


def test_a_manifest_that_is_damaged_is_mended_by_an_import(local_store: Store, small: str) -> None:
    manifest = import_dataset(local_store, "small", small, "npz")
    local_store.write(f"datasets/small/{manifest.version}/manifest.json", b"{")
    again = import_dataset(local_store, "small", small, "npz")
    assert again.shards == manifest.shards and find_dataset(local_store, "small") == again


def test_what_crashed_imports_left_is_swept_after_a_day(local_store: Store, small: str) -> None:
    for version, age in (("0123456789ab", 25 * 3600), ("ba9876543210", 3600)):
        key = f"datasets/small/{version}/train-00000-of-00001.parquet"
        local_store.write(key, b"x")
        moment = time.time() - age
        os.utime(Path(local_store.url, key), (moment, moment))
    import_dataset(local_store, "small", small, "npz")
    assert not list(local_store.objects("datasets/small/0123456789ab/"))
    assert list(local_store.objects("datasets/small/ba9876543210/")), "another import may still be writing it"


def test_several_imports_of_the_same_at_once_agree(tmp_path: Path, small: str, many_shards: None) -> None:
    def one(_: int) -> Manifest:
        return import_dataset(open_store(Settings.load(store=str(tmp_path / "store"))), "small", small, "npz")

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(one, range(4)))
    assert len({manifest.version for manifest in made}) == 1
    assert find_dataset(LocalStore(tmp_path / "store"), "small").shards == made[0].shards


def test_the_original_split_and_order_are_kept(local_store: Store, idx_folder: Path) -> None:
    manifest = import_dataset(local_store, "pictures", str(idx_folder), "idx")
    assert manifest.splits == {"train": 30, "test": 10}
    assert [shard.split for shard in manifest.shards] == ["train", "test"]


def test_a_known_name_needs_no_format_and_has_its_classes(local_store: Store, idx_folder: Path) -> None:
    manifest = import_dataset(local_store, "fashion-mnist", str(idx_folder))
    assert manifest.classes[9] == "Ankle boot" and manifest.features[0].scale == 255


def test_a_known_name_with_another_format_is_possible(local_store: Store, small: str) -> None:
    assert import_dataset(local_store, "mnist", small, "npz").splits == {"train": 12, "test": 5}


def test_a_file_url_is_a_path(local_store: Store, small: str) -> None:
    assert import_dataset(local_store, "small", Path(small).as_uri(), "npz").splits["train"] == 12


def test_an_unknown_name_needs_a_format(refused: Refused, small: str) -> None:
    refused(Path(small), None, 2, "'mine'", "mnist", "--format", "parquet", name="mine")


def test_an_unknown_format_is_an_error(refused: Refused, small: str) -> None:
    refused(Path(small), "tfrecord", 2, "'tfrecord'", "cifar, csv, idx, images, npz, parquet")


def test_without_files_only_known_names_have_an_address(refused: Refused) -> None:
    refused(None, "npz", 2, "'mine'", "--from", name="mine")


@pytest.mark.parametrize("name", ["", "My", "a/b", "../x", "a@b", "x" * 48, "a b", "-a", "a\n", "ü"])
def test_a_name_that_is_no_label_is_refused(refused: Refused, small: str, name: str) -> None:
    refused(Path(small), "npz", 2, "dataset name", "lower-case", name=name)


def test_the_embedded_datasets_name_is_taken(refused: Refused, small: str) -> None:
    refused(Path(small), "npz", 2, "comes with Delayline", name="digits")
    refused(Path(small), "npz", 2, "comes with Delayline", name="bits")


@pytest.mark.parametrize("source", ["none", "a\0b", "x" * 5000, "~nobody-at-all/x"])
def test_a_source_that_is_not_there_is_refused(local_store: Store, source: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        import_dataset(local_store, "mine", source, "npz")
    assert len(str(caught.value)) < 400


def test_a_folder_that_may_not_be_read_is_an_error_in_one_sentence(
    refused: Refused, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "x_train.npz")

    monkeypatch.setattr("service.datasets.formats.idx.Path.read_bytes", forbid)
    folder = Path(small).parent / "idx"
    folder.mkdir()
    for prefix in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (folder / f"{prefix}-{kind}-ubyte").touch()
    refused(folder, "idx", 2, "Permission denied", "x_train.npz")


def test_nothing_is_left_in_the_temporary_folder(
    local_store: Store, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    import_dataset(local_store, "small", small, "npz")
    with pytest.raises(InvalidInput):
        import_dataset(local_store, "small", "none", "npz")
    assert not list(scratch.glob("*/*"))


def test_progress_is_reported_in_bytes(local_store: Store, small: str) -> None:
    told: list[tuple[str, int, int]] = []
    import_dataset(local_store, "small", small, "npz", lambda *what: told.append(what))
    assert [phase for phase, _, _ in told] == ["reading", "writing", "writing"]
    assert told[0][1] == Path(small).stat().st_size and all(done > 0 for _, done, _ in told)


def test_a_source_may_go_once_it_is_imported(local_store: Store, small: str) -> None:
    import_dataset(local_store, "small", small, "npz")
    Path(small).unlink()
    shutil.rmtree(Path(small).parent / "scratch", ignore_errors=True)
    assert find_dataset(local_store, "small").splits["test"] == 5


def test_the_ground_is_kept_and_decides_about_the_version(local_store: Store, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "in" / split / "a").mkdir(parents=True)
        Image.new("RGB", (6, 4), (9, 8, 7)).save(tmp_path / "in" / split / "a" / "0.png")

    def imported(ground: str | None) -> Manifest:
        made = import_dataset(local_store, "p", str(tmp_path / "in"), "images", choices=Choices(ground=ground))
        assert find_dataset(local_store, "p") == made
        return made

    black, none, white = imported("black"), imported(None), imported("white")
    assert [each.ground for each in (black, none, white)] == ["black", "white", "white"]
    assert none.version == white.version != black.version and not white.notes


def test_notes_and_the_ground_of_a_manifest_of_before_are_brought_up_to_date(local_store: Store, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "in" / split / "a").mkdir(parents=True)
        Image.new("RGB", (6, 4), (9, 8, 7)).save(tmp_path / "in" / split / "a" / "0.png")
    made = import_dataset(local_store, "p", str(tmp_path / "in"), "images")
    key = DatasetPaths("p", made.version).manifest
    before = {name: value for name, value in made.document().items() if name not in ("ground", "notes")}
    local_store.write(key, to_bytes(before))
    assert (find_dataset(local_store, "p").ground, find_dataset(local_store, "p").notes) == ("", ())
    (tmp_path / "in" / "a.txt").touch()
    again = import_dataset(local_store, "p", str(tmp_path / "in"), "images")
    assert again.ground == "white" and again.version == made.version and len(again.notes) == 1
    local_store.write(key, to_bytes({**before, "ground": "purple"}))
    with pytest.raises(Damaged):
        find_dataset(local_store, "p")
