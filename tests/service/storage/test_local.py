"""What a store in a folder says and does when its disk is full, broken or not for it."""

import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.s3_stores import one_sentence, opened

from service.doctor.findings import examine
from service.doctor.store import store_checks
from service.errors import Conflict, StoreError
from service.settings import Settings
from service.storage import open_store
from service.storage.base import Store
from service.storage.local import TEMPORARY

MIB = 1024**2


def fail_with(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "full: make room"), (errno.EDQUOT, "full: make room"), (errno.EROFS, "read-only"), (errno.EIO, "mend it")],
)
def test_a_disk_that_fails_is_an_error_in_one_sentence(
    local_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    (tmp_path / "source").write_bytes(b"content")
    local_store.write("a", b"before")
    for attempt in (lambda: local_store.write("a", b"after"), lambda: local_store.upload(tmp_path / "source", "a")):
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail_with(number))
            with pytest.raises(StoreError) as caught:
                attempt()
        one_sentence(caught, local_store.url, words)
    assert local_store.read("a") == b"before" and [info.key for info in local_store.objects("")] == ["a"]
    assert [path.name for path in Path(local_store.url, ".delayline-tmp").iterdir() if not path.name.startswith("lock")] == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK])
def test_a_file_system_without_hard_links_is_named(local_store: Store, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "link", fail_with(number))
    with pytest.raises(StoreError) as caught:
        local_store.write("runs/a/spec.json", b"{}", if_absent=True)
    one_sentence(caught, "without hard links", "exFAT, SMB shares and gcsfuse", "choose a folder on another one")
    assert list(local_store.objects("")) == []
    lines = {line.name: line for line in examine([store_checks(Settings.load(store=local_store.url))], 9.0)}
    assert lines["conditional writes"].status == "failed" and "without hard links" in lines["conditional writes"].text


def test_names_are_on_the_disk_before_a_write_returns(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    local_store.write("runs/a/state.json", b"{}")
    root = Path(local_store.url)
    folders = [name for name in synced if Path(name).is_dir()]
    assert folders == [str(root / "runs"), str(root), str(root / "runs/a")]
    synced.clear()
    local_store.write("runs/a/lease.json", b"{}", if_absent=True)
    assert synced[-1] == str(root / "runs/a")


def test_a_version_is_that_of_the_file_and_not_of_a_remembered_status(
    local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = local_store.write("a", b"1")
    stale, true_stat = Path(local_store.url, "a").stat(), Path.stat
    local_store.write("a", b"22")

    def remembered(path: Path, **options: bool) -> os.stat_result:
        return stale if path.name == "a" else true_stat(path, **options)

    monkeypatch.setattr(Path, "stat", remembered)
    with pytest.raises(Conflict):
        local_store.write("a", b"3", if_version=version)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB, where this user may mount one."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_what_was_there(tiny_disk: Path, tmp_path: Path) -> None:
    store = opened(str(tiny_disk / "store"))
    store.write("a", b"before")
    (tmp_path / "source").write_bytes(b"x" * 2 * MIB)
    for attempt in (lambda: store.write("a", b"x" * 2 * MIB), lambda: store.upload(tmp_path / "source", "b")):
        with pytest.raises(StoreError) as caught:
            attempt()
        one_sentence(caught, str(tiny_disk), "full: make room")
    assert [(info.key, info.size) for info in store.objects("")] == [("a", 6)]
    store.write("a", b"x" * (512 * 1024))


def test_a_file_in_the_stores_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError) as caught:
        opened(str(tmp_path / "file")).check()
    one_sentence(caught, "file", "choose another folder")


def test_a_store_below_a_folder_nobody_may_write_to_is_refused() -> None:
    with pytest.raises(StoreError) as caught:
        opened("/proc/store").check()
    one_sentence(caught, "/proc/store")


def test_a_download_to_a_full_disk_leaves_nothing(local_store: Store, tiny_disk: Path) -> None:
    local_store.write("a", b"x" * 2 * MIB)
    with pytest.raises(StoreError, match="room"):
        local_store.download("a", tiny_disk / "target")
    assert list(tiny_disk.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc in which nobody may make a folder")
def test_a_folder_that_cannot_be_made_is_said() -> None:
    with pytest.raises(StoreError, match="cannot be made there: choose another folder") as caught:
        open_store(Settings.load(store="/proc/nowhere")).write("a/b", b"c")
    assert caught.value.exit_code == 5


def test_a_clock_that_is_ahead_removes_nothing_that_others_are_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the file system's clock alone, as leases are."""
    opened(str(tmp_path)).write("a", b"content")
    folder = tmp_path / TEMPORARY
    fresh, old = folder / "12-ab", folder / "12-cd"
    for path in (fresh, old):
        path.write_bytes(b"half")
    os.utime(old, (path.stat().st_atime, path.stat().st_mtime - 25 * 3600))
    ahead = time.time() + 3 * 86400
    monkeypatch.setattr(time, "time", lambda: ahead)
    opened(str(tmp_path)).write("b", b"content")
    assert fresh.exists() and not old.exists()
