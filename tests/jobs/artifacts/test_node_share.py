"""Workers of one node read a file together: it comes once from the store, whole and verified, and does not stay."""

import fcntl
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jobs.artifacts import node_share
from jobs.artifacts.node_share import NodeShare
from service.errors import Damaged, NotFound, StoreError
from service.settings import Settings
from service.storage import open_store
from service.storage.base import Store

DATA = hashlib.shake_128(b"tensors").digest(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(seaweedfs: Any, monkeypatch: pytest.MonkeyPatch) -> Store:
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    made = open_store(Settings.load(store=f"s3://{seaweedfs.bucket()}/p"))
    made.write("file", DATA)
    return made


@pytest.fixture
def downloads(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that were fetched for all of a node."""
    fetched, download = list[str](), store.download

    def noted(key: str, target: Path, *more: Any) -> str:
        fetched.append(key)
        return download(key, target, *more)

    monkeypatch.setattr(store, "download", noted)
    return fetched


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.startswith("lock-")]


def test_of_many_workers_one_fetches(store: Store, downloads: list[str], tmp_path: Path) -> None:
    shares, barrier = [NodeShare(tmp_path, 6) for _ in range(6)], threading.Barrier(6)

    def read(share: NodeShare) -> bytes:
        barrier.wait(30)
        return bytes(share.read(store, "file", len(DATA), SHA256))

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(read, shares)) == {DATA}
    assert downloads == ["file"]
    buffer = shares[0].read(store, "file", len(DATA), SHA256)
    for share in shares:
        share.release()
    assert left(tmp_path) == [] and buffer.tobytes() == DATA and downloads == ["file"]


def test_a_worker_alone_on_its_node_keeps_nothing(store: Store, downloads: list[str], tmp_path: Path) -> None:
    assert NodeShare(tmp_path / "none", 1).read(store, "file", len(DATA), SHA256).tobytes() == DATA
    assert downloads == [] and not (tmp_path / "none").exists()


@pytest.mark.parametrize("neighbours", [1, 2])
def test_what_is_damaged_or_missing_is_an_error_and_not_kept(store: Store, tmp_path: Path, neighbours: int) -> None:
    share = NodeShare(tmp_path, neighbours)
    for size, sha256 in ((len(DATA), SHA256[::-1]), (len(DATA) + 1, SHA256), (len(DATA) - 1, SHA256)):
        with pytest.raises(Damaged, match=r"file differs|300000 bytes instead"):
            share.read(store, "file", size, sha256)
    with pytest.raises(NotFound):
        share.read(store, "none", 1, SHA256)
    assert left(tmp_path) == []


def test_what_a_crash_left_is_swept_and_what_others_hold_is_not(store: Store, tmp_path: Path) -> None:
    for name in ("left", "held"):
        (tmp_path / name).write_bytes(b"x")
    with (tmp_path / "held").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        share = NodeShare(tmp_path, 2)
        share.read(store, "file", len(DATA), SHA256)
        assert sorted(left(tmp_path)) == sorted([SHA256, "held"])
        share.release()
    assert left(tmp_path) == ["held"]


def test_where_nothing_can_be_kept_each_reads_for_itself(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert NodeShare(tmp_path / "file", 2).read(store, "file", len(DATA), SHA256).tobytes() == DATA

    def full(*_: Any) -> str:
        raise StoreError("no room in the folder")

    monkeypatch.setattr(store, "download", full)
    assert NodeShare(tmp_path / "full", 2).read(store, "file", len(DATA), SHA256).tobytes() == DATA
    monkeypatch.setattr(node_share, "LOCK_SECONDS", 0.2)
    with (tmp_path / "full" / f"lock-{SHA256[:2]}").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert NodeShare(tmp_path / "full", 2).read(store, "file", len(DATA), SHA256).tobytes() == DATA
    assert capsys.readouterr().out.count("read by this worker for itself") == 3
