"""What every store keeps to, shown on a directory, SeaweedFS and MinIO."""

import hashlib
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import Conflict, Damaged, InvalidInput, NotFound
from service.storage.base import Store

MakeStore = Callable[[], Store]
MIB = 1024**2


def test_what_is_written_is_read(store: Store) -> None:
    store.write("runs/a/spec.json", b"one")
    assert store.read("runs/a/spec.json") == b"one"
    store.write("runs/a/spec.json", b"two, longer")
    assert store.read("runs/a/spec.json") == b"two, longer"
    assert store.exists("runs/a/spec.json") and not store.exists("runs/a/spec")


@pytest.mark.parametrize("size", [0, 1, 300_000, 3 * MIB])
def test_a_large_object_is_read_into_memory_of_its_size_alone(store: Store, size: int) -> None:
    data = hashlib.shake_128(b"large").digest(size)
    store.write_large("data/large", memoryview(data))
    room = bytearray(size)
    assert store.read_into("data/large", memoryview(room)) == hashlib.sha256(data).hexdigest() and room == data
    assert store.read("data/large") == data
    for other in (size + 1, max(0, size - 1)):
        if other != size:
            with pytest.raises(Damaged, match=f"'data/large' in .* has {size} bytes instead of {other}"):
                store.read_into("data/large", memoryview(bytearray(other)))
    with pytest.raises(NotFound, match="no/such"):
        store.read_into("no/such", memoryview(bytearray(1)))


def test_an_object_may_be_empty(store: Store) -> None:
    store.write("empty", b"")
    assert store.read("empty") == b"" and store.read_range("empty", 0, 10) == b""


def test_a_missing_object_is_not_found(store: Store) -> None:
    for read in (store.read, store.read_versioned, lambda key: store.read_range(key, 0, 1)):
        with pytest.raises(NotFound, match="no/such"):
            read("no/such")
    store.delete("no/such")


def test_ranges_end_with_the_object(store: Store) -> None:
    store.write("data", bytes(range(100)))
    assert store.read_range("data", 10, 5) == bytes(range(10, 15))
    assert store.read_range("data", 95, 50) == bytes(range(95, 100))
    assert store.read_range("data", 200, 5) == b""
    assert store.read_range("data", 0, 0) == b""


def test_if_absent_writes_once(store: Store) -> None:
    store.write("claim", b"first", if_absent=True)
    with pytest.raises(Conflict):
        store.write("claim", b"second", if_absent=True)
    assert store.read("claim") == b"first"


def test_if_version_writes_only_over_that_version(store: Store) -> None:
    first = store.write("lease", b"1")
    assert store.read_versioned("lease") == (b"1", first)
    second = store.write("lease", b"2", if_version=first)
    assert second != first
    with pytest.raises(Conflict):
        store.write("lease", b"3", if_version=first)
    assert store.read_versioned("lease") == (b"2", second)


def test_if_version_of_an_object_that_is_gone_is_a_conflict(store: Store) -> None:
    version = store.write("lease", b"1")
    store.delete("lease")
    with pytest.raises(Conflict):
        store.write("lease", b"2", if_version=version)


def race(make_store: MakeStore, write: Callable[[Store, int], object], writers: int = 16) -> list[int]:
    """Let writers of separate stores write at the same instant; return those that did not meet a conflict."""
    barrier = threading.Barrier(writers)

    def one(number: int) -> int | None:
        store = make_store()
        store.exists("warm")
        barrier.wait(30)
        try:
            write(store, number)
        except Conflict:
            return None
        return number

    with ThreadPoolExecutor(writers) as pool:
        return [winner for winner in pool.map(one, range(writers)) if winner is not None]


def test_of_sixteen_that_claim_at_once_one_wins(make_store: MakeStore) -> None:
    winners = race(make_store, lambda store, number: store.write("claim", str(number).encode(), if_absent=True))
    assert len(winners) == 1
    assert make_store().read("claim") == str(winners[0]).encode()


def test_of_sixteen_that_swap_at_once_one_wins(make_store: MakeStore) -> None:
    version = make_store().write("lease", b"start")
    winners = race(make_store, lambda store, number: store.write("lease", str(number).encode(), if_version=version))
    assert len(winners) == 1
    assert make_store().read("lease") == str(winners[0]).encode()


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 16 * MIB, 16 * MIB + 1, 40 * MIB + 17])
def test_files_of_any_size_come_back_with_their_checksum(store: Store, tmp_path: Path, size: int) -> None:
    data = hashlib.shake_128(str(size).encode()).digest(size)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    moved: list[int] = []
    assert store.upload(source, "big/file", moved.append) == hashlib.sha256(data).hexdigest()
    assert sum(moved) == size
    moved.clear()
    assert store.download("big/file", target, moved.append) == hashlib.sha256(data).hexdigest()
    assert target.read_bytes() == data and sum(moved) == size
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 64 * MIB, 64 * MIB + 1, 83 * MIB + 17])
def test_a_stream_of_any_size_is_one_object(store: Store, size: int) -> None:
    data = memoryview(hashlib.shake_128(str(size).encode()).digest(size))
    ends = sorted({0, min(7, size), min(size, 20 * MIB + 5), size})
    pieces = [data[first:last] for first, last in itertools.pairwise(ends)]
    expected = hashlib.sha256(data).hexdigest()
    store.write("stream", b"of another time")
    assert store.write_stream("stream", [memoryview(b""), *pieces], size) == expected
    room = bytearray(size)
    assert store.read_into("stream", memoryview(room)) == expected and room == data
    with pytest.raises(Damaged, match=f"has {size} bytes instead of {size + 1}"):
        store.read_into("stream", memoryview(bytearray(size + 1)))
    assert [info.size for info in store.objects("")] == [size] and store.unfinished(["stream"]) == []


@pytest.mark.parametrize("size", [10, 65 * MIB])
def test_a_stream_that_is_not_as_long_as_was_said_leaves_the_object_as_it_was(store: Store, size: int) -> None:
    store.write("stream", b"of another time")
    for announced in (size - 1, size + 1):
        with pytest.raises(ValueError, match=str(announced)):
            store.write_stream("stream", [memoryview(bytes(size))], announced)
    assert store.read("stream") == b"of another time" and store.unfinished(["stream"]) == []


@pytest.mark.parametrize("size", [100, 17 * MIB])
def test_a_file_is_uploaded_under_the_conditions_of_a_write(store: Store, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"\1" * size)
    assert store.version_of("file") is None
    digest = store.upload(source, "file", if_absent=True)
    assert digest == hashlib.sha256(b"\1" * size).hexdigest()
    first = store.version_of("file")
    assert first is not None and store.read_versioned("file")[1] == first
    source.write_bytes(b"\2" * size)
    with pytest.raises(Conflict):
        store.upload(source, "file", if_absent=True)
    store.upload(source, "file", if_version=first)
    second = store.version_of("file")
    assert second not in (None, first)
    source.write_bytes(b"\3" * size)
    with pytest.raises(Conflict):
        store.upload(source, "file", if_version=first)
    assert store.read_range("file", size - 1, 2) == b"\2" and store.version_of("file") == second
    store.delete("file")
    with pytest.raises(Conflict):
        store.upload(source, "file", if_version=second)
    assert not store.exists("file") and store.unfinished(["file"]) == []


def test_a_download_of_nothing_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        store.download("no/such", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_listing_is_by_prefix_and_in_order(store: Store) -> None:
    for key in ("runs/b/1", "runs/a/2", "runs/a/10", "runs/ab/1", "other"):
        store.write(key, key.encode())
    assert [info.key for info in store.objects("runs/a")] == ["runs/a/10", "runs/a/2", "runs/ab/1"]
    assert [info.key for info in store.objects("runs/a/")] == ["runs/a/10", "runs/a/2"]
    assert [info.key for info in store.objects("nothing/")] == []
    assert {info.key: info.size for info in store.objects("other")} == {"other": 5}
    assert store.list_folders("runs/") == ["a", "ab", "b"]
    assert store.list_folders("runs/a/") == [] and store.list_folders("none/") == []


def test_a_listing_of_more_than_a_page_is_whole(store: Store) -> None:
    keys = [f"many/{number:04d}/x" for number in range(1050)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.write(key, b""), keys))
    assert [info.key for info in store.objects("many/")] == keys
    assert len(store.list_folders("many/")) == 1050
    assert store.delete_prefix("many/") == 1050
    assert list(store.objects("many/")) == []


def test_many_objects_are_read_at_once_and_missing_ones_left_out(store: Store) -> None:
    for number in range(20):
        store.write(f"doc/{number}", str(number).encode())
    assert store.read_many([f"doc/{number}" for number in (3, 17, 99)]) == {"doc/3": b"3", "doc/17": b"17"}


def test_very_many_objects_of_odd_names_are_read_at_once(store: Store) -> None:
    names = [f"doc/{number} ü+%&=?#:@,;'()*!~$.json" for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.write(name, name.encode()), names))
    found = store.read_many([*names, "doc/missing"])
    assert found == {name: name.encode() for name in names}


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\\b", "a\0b", "x" * 1000])
def test_keys_that_could_leave_the_store_are_refused(store: Store, key: str) -> None:
    with pytest.raises(InvalidInput):
        store.write(key, b"x")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text("abc019-_.+ ~=@é漢%&#?'\"", min_size=1, max_size=20), data=st.binary(max_size=200))
def test_odd_names_are_kept_as_they_are(store: Store, name: str, data: bytes) -> None:
    key = f"odd/k{name}k"
    store.write(key, data)
    assert store.read(key) == data
    assert key in [info.key for info in store.objects("odd/")]
    store.delete(key)
    assert not store.exists(key)


def test_check_writes_and_leaves_nothing(store: Store) -> None:
    store.check()
    assert list(store.objects("")) == []
