"""A real server behind one that says for a while that the token has expired, as S3 does until it is refreshed."""

import http.client
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import s3_servers

from service.errors import CredentialsRefused, StoreError
from service.settings import Settings
from service.storage import open_store
from service.storage.base import Store

BODY = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
AWAY_SECONDS = 0.25
LARGE = np.arange(600_000, dtype=np.uint32).astype(np.uint8)


class Front(http.server.ThreadingHTTPServer):
    """Passes requests on, but while `expired`."""

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind, self.expired, self.refused = behind.removeprefix("http://"), False, 0
        self.doubled: list[str] = []
        """Headers that are sent twice."""

    def expire(self) -> None:
        self.expired, self.refused = True, 0
        threading.Timer(AWAY_SECONDS, setattr, (self, "expired", False)).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Front

    def do(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.server.expired:
            self.server.refused += 1
            self._answer(400, {"Content-Length": str(len(BODY))}, BODY)
            return
        passed = http.client.HTTPConnection(self.server.behind)
        passed.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            passed.putheader(name, value)
        passed.endheaders(data)
        answer = passed.getresponse()
        body = answer.read()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in ("transfer-encoding", "connection")}
        self._answer(answer.status, {"Content-Length": str(len(body)), **kept}, body)
        passed.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            for _ in range(2 if name.lower() in self.server.doubled else 1):
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None: ...


@pytest.fixture
def front(seaweedfs: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    with Front(seaweedfs.endpoint) as made:
        for name, value in {**seaweedfs.environment, "DELAYLINE_S3_ENDPOINT": f"http://127.0.0.1:{made.server_port}"}.items():
            monkeypatch.setenv(name, value)
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def store(front: Front, seaweedfs: s3_servers.S3Server) -> Store:
    made = open_store(Settings.load(store=f"s3://{seaweedfs.bucket()}/lab"), patience=20)
    for key in ("a", *(f"many/{number}" for number in range(60))):
        made.write(key, b"content")
    return made


def _into(store: Store) -> bool:
    target = np.empty_like(LARGE)
    store.write_large("l", memoryview(LARGE.data))
    return bool(store.read_into("l", memoryview(target.data))) and target.tobytes() == LARGE.tobytes()


def _upload(store: Store, folder: Path) -> bool:
    (folder / "file").write_bytes(LARGE.tobytes())
    store.upload(folder / "file", "u")
    store.download("u", folder / "back")
    return (folder / "back").read_bytes() == LARGE.tobytes()


ACTIONS: dict[str, Callable[[Store, Path], object]] = {
    "read": lambda store, _: store.read("a") == b"content",
    "read_aged": lambda store, _: store.read_aged("a").data == b"content",
    "read_many": lambda store, _: len(store.read_many([f"many/{number}" for number in range(60)])) == 60,
    "read_into": lambda store, _: _into(store),
    "write": lambda store, _: store.write("b", b"x") and store.read("b") == b"x",
    "if_absent": lambda store, _: store.write("c", b"x", if_absent=True),
    "if_version": lambda store, _: store.write("a", b"x", if_version=str(store.version_of("a"))),
    "exists": lambda store, _: store.exists("a"),
    "absent": lambda store, _: not store.exists("none"),
    "list": lambda store, _: len(list(store.objects("many/"))) == 60,
    "list_folders": lambda store, _: store.list_folders("") == ["many"],
    "delete": lambda store, _: store.delete("a") is None and not store.exists("a"),
    "delete_prefix": lambda store, _: store.delete_prefix("many/") == 60,
    "unfinished": lambda store, _: store.unfinished() == [],
    "files": _upload,
}


def test_whatever_is_asked_waits_until_the_token_is_good_again(store: Store, front: Front, tmp_path: Path) -> None:
    for name, action in ACTIONS.items():
        front.expire()
        assert action(store, tmp_path), name
        assert front.refused, name
        while front.expired:
            time.sleep(0.02)


def test_a_token_that_stays_expired_is_named_with_the_remedy(store: Store, front: Front) -> None:
    front.expired = True
    short = open_store(Settings.load(store=store.url), patience=0.5)
    with pytest.raises(CredentialsRefused, match="AWS_SESSION_TOKEN"):
        short.read("a")


@pytest.mark.parametrize("loss", ["old", "missing"])
def test_credentials_that_are_lost_are_read_again_until_they_are_written_anew(
    front: Front, seaweedfs: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loss: str
) -> None:
    file = tmp_path / "credentials"

    def write(secret: str) -> None:
        file.write_text(f"[default]\naws_access_key_id = {seaweedfs.access_key}\naws_secret_access_key = {secret}\n")

    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    write(seaweedfs.secret_key)
    store = open_store(Settings.load(store=f"s3://{seaweedfs.bucket()}"), patience=20)
    store.write("a", b"content")
    if loss == "old":
        write("an-old-one")
    else:
        file.unlink()
    # The server refuses the credentials that the store has, and what it finds in their place is of no use yet.
    front.expire()
    threading.Timer(1.0, write, args=(seaweedfs.secret_key,)).start()
    assert store.read("a") == b"content"
    assert front.refused


def test_a_header_that_something_on_the_way_doubles_is_an_error_in_one_sentence(store: Store, front: Front) -> None:
    front.doubled = ["date"]
    with pytest.raises(StoreError, match="does not say its time") as caught:
        store.read_aged("a")
    assert "\n" not in str(caught.value)
