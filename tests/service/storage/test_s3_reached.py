"""Regions, proxies, TLS: where a request arrives elsewhere or nowhere."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import s3_servers
from support.http_answers import HTML, Answer, error, opened, refused, serving, verbs

from service.errors import StoreUnreachable
from service.storage.location import S3Location

pytestmark = pytest.mark.usefixtures("any_keys")


def test_a_region_that_the_server_names_is_taken(tmp_path: Path) -> None:
    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        if "/eu-central-1/" in headers["authorization"]:
            return (200, {"etag": '"1"'}, b"content")
        more = "<Region>eu-central-1</Region>"
        return (400, {}, error("AuthorizationHeaderMalformed", "The region 'us-east-1' is wrong.", more))

    with serving(answer) as (address, _):
        assert opened(address).read("a") == b"content"
    moved = (301, {"x-amz-bucket-region": "eu-west-2"}, error("PermanentRedirect", "Elsewhere."))
    with serving(lambda *_: moved) as (address, asked):
        assert "AWS_REGION=eu-west-2" in str(refused(lambda: opened(address).read("a"))) and len(asked) <= 3
    for host, word in {
        "s3.eu-west-3.amazonaws.com": "AWS_REGION=eu-west-3",
        "b.example.org": "endpoint to that of b.example.org",
    }.items():
        moved = (301, {}, error("PermanentRedirect", "Use it.", f"<Endpoint>{host}</Endpoint>"))
        with serving(lambda *_, moved=moved: moved) as (address, asked):
            every = verbs(opened(address), tmp_path)
            for verb in ("read", "list", "exists", "upload parts"):
                assert word in (text := str(refused(every[verb]))) and "Use it" in text, text
            assert len(asked) <= 8


def test_a_dead_proxy_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = s3_servers.free_ports(1)
    for name, address in {"HTTP_PROXY": "http://s3.lab.example:9000", "HTTPS_PROXY": "https://s3.lab.example"}.items():
        monkeypatch.setenv(name, f"http://user:topsecret@127.0.0.1:{port}")
        found = refused(lambda address=address: opened(address).read("a"))  # type: ignore[misc]
        assert isinstance(found, StoreUnreachable)
        assert f"http://127.0.0.1:{port}" in str(found) and "NO_PROXY=s3.lab.example" in str(found)
        monkeypatch.delenv(name)
    with serving(lambda *_: (403, {"content-type": "text/html"}, HTML)) as (proxy, _):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        assert "NO_PROXY=s3.lab.example" in str(refused(lambda: opened("http://s3.lab.example:9000").read("a")))


@contextlib.contextmanager
def speaking(words: bytes) -> Iterator[str]:
    """A server that says this to whatever comes, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        connection.settimeout(1)
                        connection.recv(65536)
                        connection.sendall(words)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize(
    ("words", "scheme", "expected"),
    [
        (b"", "http", "may want https://"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "http", "did not answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: \"1\"\r\n\r\nnonsense\r\n", "http", "did not answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: \"1\"\r\n\r\nshort", "http", "did not answer"),
        (b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n", "http", "write https://"),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "https", "http:// instead of https://"),
    ],
)  # fmt: skip
def test_what_speaks_no_http_is_an_error_with_its_remedy(words: bytes, scheme: str, expected: str) -> None:
    with speaking(words) as host:
        for key in ("read", "list"):
            store = opened(f"{scheme}://{host}")
            text = str(refused((lambda: store.read("a")) if key == "read" else (lambda: list(store.objects("")))))  # noqa: B023
            assert expected in text, text


def test_a_location_without_endpoint_is_aws() -> None:
    assert S3Location("lab", "", None).url == "s3://lab"
