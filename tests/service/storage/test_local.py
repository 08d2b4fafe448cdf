"""What a store in a folder says and does when its disk is full, broken or not for it."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.errors import StoreError
from service.settings import Settings
from service.storage import open_store
from service.storage.base import Store

MIB = 1024**2


def opened(url: str, patience: float = 5.0) -> Store:
    return open_store(Settings.load(store=url), patience)


def one_sentence(error: pytest.ExceptionInfo[StoreError], *words: str) -> None:
    text = str(error.value)
    assert error.value.exit_code == 5 and "\n" not in text and text.endswith(".") and len(text) < 400, text
    for word in words:
        assert word in text, text


def fail_with(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "full: make room"), (errno.EDQUOT, "full: make room"), (errno.EROFS, "read-only"), (errno.EIO, "mend it")],
)
def test_a_disk_that_fails_is_told_in_one_sentence(
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
    assert local_store.read("a") == b"before" and [info.key for info in local_store.list("")] == ["a"]
    assert [path.name for path in Path(local_store.url, ".delayline-tmp").iterdir() if not path.name.startswith("lock")] == []


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
    assert [(info.key, info.size) for info in store.list("")] == [("a", 6)]
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
