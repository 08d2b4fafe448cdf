"""Servers that are away, for good or for a while."""

import hashlib
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import s3_servers
from support.s3_stores import MIB, one_sentence, opened

from service.errors import StoreError, StoreUnreachable


def test_a_server_that_is_not_there_is_given_up_after_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = s3_servers.free_ports(1)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret")
    store = opened(f"s3://bucket?endpoint_override=http://127.0.0.1:{port}", patience=1.0)
    began = time.monotonic()
    with pytest.raises(StoreUnreachable) as caught:
        store.read("a")
    assert time.monotonic() - began < 10
    one_sentence(caught, f"127.0.0.1:{port}", "did not answer for 1 s", "endpoint")
    assert "topsecret" not in str(caught.value)


def test_a_server_that_speaks_no_s3_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (port,) = s3_servers.free_ports(1)
    argv = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    process = subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        store = opened(f"s3://bucket?endpoint_override=http://127.0.0.1:{port}", patience=3.0)
        deadline = time.monotonic() + 20
        while True:
            with pytest.raises(StoreError) as caught:
                store.check()
            if not isinstance(caught.value, StoreUnreachable) or time.monotonic() > deadline:
                break
        one_sentence(caught, f"127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
def test_an_outage_loses_nothing(own_seaweedfs: s3_servers.S3Server, tmp_path: Path) -> None:
    url = f"s3://{own_seaweedfs.bucket()}/p"
    store = opened(url, patience=60.0)
    data = hashlib.shake_128(b"outage").digest(48 * MIB)
    (tmp_path / "source").write_bytes(data)
    store.write("before", b"0")
    own_seaweedfs.stop()
    with ThreadPoolExecutor(8) as pool:
        upload = pool.submit(store.upload, tmp_path / "source", "large")
        writes = [pool.submit(store.write, f"doc/{number}", str(number).encode(), if_absent=True) for number in range(5)]
        read = pool.submit(store.read, "before")
        time.sleep(3)
        assert not any(future.done() for future in (upload, read, *writes))
        own_seaweedfs.start()
        assert read.result(90) == b"0" and upload.result(90) == hashlib.sha256(data).hexdigest()
        assert all(future.result(90) for future in writes)
    assert store.read_many([f"doc/{n}" for n in range(5)]) == {f"doc/{n}": str(n).encode() for n in range(5)}
    assert store.download("large", tmp_path / "target") == hashlib.sha256(data).hexdigest()


@pytest.mark.slow
def test_an_outage_in_the_middle_of_an_upload_loses_nothing(own_seaweedfs: s3_servers.S3Server, tmp_path: Path) -> None:
    store = opened(f"s3://{own_seaweedfs.bucket()}/p", patience=60.0)
    data = hashlib.shake_128(b"middle").digest(160 * MIB)
    (tmp_path / "source").write_bytes(data)
    began, restarted = threading.Event(), threading.Event()

    def restart() -> None:
        began.wait(60)
        own_seaweedfs.stop()
        time.sleep(2)
        own_seaweedfs.start()
        restarted.set()

    def pause(_: int) -> None:
        began.set()
        time.sleep(0.3)

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        assert store.upload(tmp_path / "source", "large", pause) == hashlib.sha256(data).hexdigest()
    finally:
        thread.join(120)
    assert restarted.is_set()
    assert store.download("large", tmp_path / "target") == hashlib.sha256(data).hexdigest()


@pytest.mark.slow
def test_an_outage_in_the_middle_of_many_writes_loses_nothing(own_seaweedfs: s3_servers.S3Server) -> None:
    store = opened(f"s3://{own_seaweedfs.bucket()}", patience=60.0)
    version = store.write("counter", b"0")
    written = 0
    restarted = threading.Event()

    def restart() -> None:
        time.sleep(0.5)
        own_seaweedfs.stop()
        time.sleep(2)
        own_seaweedfs.start()
        restarted.set()

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        while not restarted.is_set() or written % 10:
            written += 1
            version = store.write("counter", str(written).encode(), if_version=version)
            store.write(f"row/{written:06d}", str(written).encode(), if_absent=True)
    finally:
        thread.join(120)
    assert store.read("counter") == str(written).encode()
    assert [info.key for info in store.objects("row/")] == [f"row/{number:06d}" for number in range(1, written + 1)]
