"""HTTP servers that answer as a test says, and a store that asks them."""

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.errors import StoreError
from service.settings import Settings
from service.storage import open_store
from service.storage.base import Store

HTML = b"<html><head><title>Sign in</title></head><body>Welcome</body></html>"
DOCTYPE = b'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/><title>MinIO Console</title></head><body><div id=root>'
MIB = 1024**2
Answer = tuple[int, dict[str, str], bytes]


def error(code: str, message: str, more: str = "") -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>".encode()


@contextlib.contextmanager
def serving(answer: Callable[[str, str, dict[str, str]], Answer]) -> Iterator[tuple[str, list[str]]]:
    """A server that answers each request (method, path, headers) so; its address, and what it was asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and content in one packet: else the second waits 40 ms for the first to be acknowledged.
        wbufsize = MIB

        def handle_expect_100(self) -> bool:
            answered = super().handle_expect_100()
            self.wfile.flush()
            return answered

        def do(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            asked.append(f"{self.command} {self.path}")
            status, headers, body = answer(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def opened(address: str, patience: float = 0.3) -> Store:
    return open_store(Settings.load(store=f"s3://lab/p?endpoint_override={address}"), patience)


def verbs(store: Store, folder: Path) -> dict[str, Callable[[], object]]:
    """Everything that a store does."""
    (folder / "small").write_bytes(b"x")
    with (folder / "large").open("wb") as file:
        file.truncate(17 * MIB)
    return {
        "list": lambda: list(store.objects("")),
        "list_folders": lambda: store.list_folders("runs/"),
        "read": lambda: store.read("a"),
        "read_aged": lambda: store.read_aged("a"),
        "read_range": lambda: store.read_range("a", 2, 3),
        "read_into": lambda: store.read_into("a", memoryview(bytearray(3))),
        "exists": lambda: store.exists("a"),
        "version_of": lambda: store.version_of("a"),
        "download": lambda: store.download("a", folder / "target"),
        "write": lambda: store.write("a", b"x"),
        "write if absent": lambda: store.write("a", b"x", if_absent=True),
        "write if version": lambda: store.write("a", b"x", if_version='"1"'),
        "write_large": lambda: store.write_large("a", memoryview(b"x")),
        "upload": lambda: store.upload(folder / "small", "a"),
        "upload parts": lambda: store.upload(folder / "large", "a", if_absent=True),
        "delete": lambda: store.delete("a"),
        "delete_prefix": lambda: store.delete_prefix("a/"),
        "unfinished": lambda: store.unfinished(["a"]),
        "check": store.check,
        "read_many": lambda: store.read_many(["a", "b"]),
        "read_many more": lambda: store.read_many([f"a{number}" for number in range(51)]),
    }


def refused(attempt: Callable[[], object]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        attempt()
    text = str(caught.value)
    assert caught.value.exit_code == 5 and "\n" not in text and text.endswith(".") and len(text) < 560, text
    assert "topsecret" not in text, text
    return caught.value
