"""What is said of servers that are no S3 servers, or that refuse: real ones cannot be made to answer so."""

import contextlib
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import s3_servers

from service.errors import Conflict, NotFound, StoreError, StoreUnreachable
from service.settings import Settings
from service.storage import open_store
from service.storage.base import Store
from service.storage.location import S3Location
from service.storage.s3_answers import one_line
from service.storage.s3_reached import without_secrets

HTML = b"<html><head><title>Sign in</title></head><body>Welcome</body></html>"
DOCTYPE = b'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/><title>MinIO Console</title></head><body><div id=root>'
RSS = b'<?xml version="1.0"?><rss version="2.0"><channel/></rss>'
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


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret-topsecret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def opened(address: str, patience: float = 0.3) -> Store:
    return open_store(Settings.load(store=f"s3://lab/p?endpoint_override={address}"), patience)


def verbs(store: Store, folder: Path) -> dict[str, Callable[[], object]]:
    """Everything that a store does."""
    (folder / "small").write_bytes(b"x")
    with (folder / "large").open("wb") as file:
        file.truncate(17 * MIB)
    return {
        "list": lambda: list(store.list("")),
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


def told(attempt: Callable[[], object]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        attempt()
    text = str(caught.value)
    assert caught.value.exit_code == 5 and "\n" not in text and text.endswith(".") and len(text) < 560, text
    assert "topsecret" not in text, text
    return caught.value


PAGES: dict[str, Answer] = {
    "200 page": (200, {"content-type": "text/html"}, HTML),
    "200 page with a version": (200, {"content-type": "text/html", "etag": '"1f"'}, HTML),
    "200 page that is no XML": (200, {"content-type": "text/html"}, DOCTYPE),
    "200 JSON": (200, {"content-type": "application/json", "etag": 'W/"1f"'}, b'{"status": "ok"}'),
    "200 another XML": (200, {"content-type": "application/xml"}, RSS),
    "200 text": (200, {"content-type": "text/plain"}, b"It works!"),
    "201 page": (201, {"content-type": "text/html"}, HTML),
    "301 https": (301, {"location": "https://s3.example.org/x?token=abc"}, HTML),
    "302 sign-in": (302, {"location": "/login?next=%2F"}, b""),
    "303 loop": (303, {"location": "http://127.0.0.1/"}, b""),
    "307 nowhere": (307, {}, b""),
    "308 https": (308, {"location": "https://s3.example.org/"}, b""),
    "401 JSON": (401, {"content-type": "application/json"}, b'{"error":"unauthorized"}'),
    "403 sign-in proxy": (403, {"content-type": "text/html"}, DOCTYPE),
    "404 page": (404, {"content-type": "text/html"}, b"<html><body><h1>404 page not found</h1></body></html>"),
    "404 text": (404, {"content-type": "text/plain"}, b"default backend - 404"),
    "405 page": (405, {"content-type": "text/html"}, HTML),
    "501 page": (501, {"content-type": "text/html"}, HTML),
}


@pytest.mark.parametrize("name", PAGES)
def test_what_is_no_s3_server_is_never_an_empty_store(name: str, tmp_path: Path) -> None:
    with serving(lambda *_: PAGES[name]) as (address, asked):
        store = opened(address)
        for verb, attempt in verbs(store, tmp_path).items():
            asked.clear()
            found = told(attempt)
            assert not isinstance(found, NotFound | Conflict | StoreUnreachable), (verb, found)
            assert f"What answers at {address} is no S3 server" in str(found), (verb, found)
            assert str(PAGES[name][0]) in str(found), (verb, found)
            # Nothing is followed, and nothing asked again that would be answered alike; many reads, last here, begin side by side.
            assert len(asked) <= 3 or verb.startswith("read_many"), (verb, asked)


def test_an_empty_answer_is_no_list_and_no_object(tmp_path: Path) -> None:
    for status in (200, 404):
        with serving(lambda *_, status=status: (status, {}, b"")) as (address, _):
            every = verbs(opened(address), tmp_path)
            # An empty 200 is what deletes and aborts have.
            for verb in ("list", "list_folders", "read", "read_into", "exists", "write", "upload", "upload parts", "unfinished"):
                assert "no S3 server" in str(told(every[verb])), verb


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("200 page", "“Sign in”"),
        ("200 page that is no XML", "MinIO Console"),
        ("301 https", "write https://s3.example.org as the endpoint"),
        ("302 sign-in", "/login"),
        ("404 page", "404 page not found"),
        ("200 another XML", "<rss>"),
        ("200 JSON", '{"status": "ok"}'),
    ],
)
def test_what_answered_is_named(name: str, word: str) -> None:
    with serving(lambda *_: PAGES[name]) as (address, _):
        text = str(told(lambda: list(opened(address).list(""))))
    assert word.strip("“”") in text and "abc" not in text, text


def test_a_page_of_a_load_balancer_is_waited_out(tmp_path: Path) -> None:
    left = 2

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        nonlocal left
        left -= 1
        if left >= 0:
            return (502, {"content-type": "text/html"}, b"<html><head><title>502 Bad Gateway</title></head></html>")
        return (200, {}, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")

    with serving(answer) as (address, _):
        assert list(opened(address, 5.0).list("")) == []
        left = 10**6
        found = told(lambda: opened(address).read("a"))
    assert isinstance(found, StoreUnreachable) and "502" in str(found) and "502 Bad Gateway" in str(found)


def test_a_server_that_worked_may_be_without_itself_for_a_while() -> None:
    """An ingress that is set up anew answers 404 for a moment: no object is missing then."""
    answers: list[Answer] = [
        (200, {"etag": '"1"'}, b"content"),
        (404, {"content-type": "text/plain"}, b"default backend - 404"),
        (200, {"content-type": "text/html"}, HTML),
        (200, {"etag": '"1"'}, b"content"),
    ]
    with serving(lambda *_: answers.pop(0)) as (address, _):
        store = opened(address, 5.0)
        assert store.read("a") == store.read("a") == b"content"


def test_answers_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    strange = [
        b"<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>p/a</Key><Size>many</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>",
    ]
    for body in strange:
        with serving(lambda *_, body=body: (200, {}, body)) as (address, _):
            told(lambda address=address: list(opened(address).list("")))  # type: ignore[misc]


def test_a_server_without_ranges_gives_the_range() -> None:
    with serving(lambda *_: (200, {"etag": '"1"'}, b"0123456789")) as (address, _):
        assert opened(address).read_range("a", 2, 3) == b"234"


REFUSALS: list[tuple[str, int, bytes, list[str]]] = [
    ("expired", 400, error("ExpiredToken", "The provided token has expired."), ["provided token has expired", "AWS_SESSION_TOKEN"]),
    ("token", 403, error("InvalidToken", "The security token included is invalid."), ["token included is invalid", "AWS_SESSION_TOKEN"]),
    ("key", 403, error("InvalidAccessKeyId", "The key is not in our records."), ["not in our records", "AWS_ACCESS_KEY_ID"]),
    ("secret", 403, error("SignatureDoesNotMatch", "The signature we calculated."), ["we calculated", "AWS_SECRET_ACCESS_KEY"]),
    ("clock", 403, error("RequestTimeTooSkewed", "The difference is too large."), ["difference is too large", "clock"]),
    ("kms", 400, error("KMS.DisabledException", "arn:aws:kms:x is disabled."), ["arn:aws:kms:x is disabled", "kms:Decrypt"]),
    ("kms right", 403, error("AccessDenied", "not authorized to perform: kms:Decrypt"), ["kms:GenerateDataKey"]),
    ("console", 403, error("AccessDenied", "S3 API Requests must be made to API port."), ["console", "9000"]),
    ("minio", 400, error("XMinioInvalidObjectName", "Object name contains unsupported characters."), ["unsupported characters"]),
    ("quota", 400, error("XMinioAdminBucketQuotaExceeded", "Bucket quota exceeded"), ["Bucket quota exceeded", "full"]),
    ("region", 400, error("AuthorizationHeaderMalformed", "wrong; expecting 'eu-west-3'"), ["AWS_REGION=eu-west-3"]),
    ("checksum", 400, error("InvalidArgument", "Unsupported header x-amz-checksum-crc32 received."), ["x-amz-checksum-crc32 received", "when_required"]),
    ("sdk", 400, error("InvalidRequest", "x-amz-sdk-checksum-algorithm specified"), ["AWS_REQUEST_CHECKSUM_CALCULATION=when_required"]),
    ("chunked", 501, error("NotImplemented", "Transfering payloads in multiple chunks using aws-chunked is not supported."), ["when_required"]),
    ("namespace", 403, error("AccessDenied", "No.").replace(b"<Error>", b'<Error xmlns="http://s3">'), ["AccessDenied", "right to"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "status", "body", "words"), REFUSALS, ids=[each[0] for each in REFUSALS])
def test_the_servers_own_sentence_is_kept(
    name: str, status: int, body: bytes, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "topsecret-token")
    with serving(lambda *_: (status, {}, body)) as (address, _):
        every = verbs(opened(address), tmp_path)
        # A HEAD has no words: what it means is asked for.
        for verb in ("list", "read", "read_into", "exists", "write", "write_large", "upload parts"):
            text = str(told(every[verb]))
            for word in words:
                assert word in text, (verb, text)


def test_the_right_that_lacks_is_named(tmp_path: Path) -> None:
    with serving(lambda *_: (403, {}, error("AccessDenied", "Access Denied."))) as (address, _):
        every = verbs(opened(address), tmp_path)
        for verb, right in {
            "list": "s3:ListBucket",
            "read": "s3:GetObject",
            "write": "s3:PutObject",
            "delete": "s3:DeleteObject",
        }.items():
            assert right in str(told(every[verb])), verb  # fmt: skip


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
        assert "AWS_REGION=eu-west-2" in str(told(lambda: opened(address).read("a"))) and len(asked) <= 3
    for host, word in {
        "s3.eu-west-3.amazonaws.com": "AWS_REGION=eu-west-3",
        "b.example.org": "endpoint to that of b.example.org",
    }.items():
        moved = (301, {}, error("PermanentRedirect", "Use it.", f"<Endpoint>{host}</Endpoint>"))
        with serving(lambda *_, moved=moved: moved) as (address, asked):
            every = verbs(opened(address), tmp_path)
            for verb in ("read", "list", "exists", "upload parts"):
                assert word in (text := str(told(every[verb]))) and "Use it" in text, text
            assert len(asked) <= 8


def test_secrets_that_a_server_repeats_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "topsecret/token+long=")

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        return (400, {}, error("Odd", f"{headers['authorization']} {headers['x-amz-security-token']} topsecret-topsecret"))

    with serving(answer) as (address, _):
        text = str(told(lambda: opened(address).read("a")))
    assert "Odd" in text and not any(len(word) == 64 for word in text.replace("=", " ").split()), text


@given(st.text(), st.integers(2, 40))
def test_a_strange_sentence_is_one_line(text: str, most: int) -> None:
    line = one_line(text, most)
    assert len(line) <= most and line.isprintable() and line == line.strip()
    assert without_secrets(line, None) is not None


class Checksumless:
    """A server of before 2025: it refuses checksums in headers and deletes many only with Content-MD5."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def __call__(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        key = path.partition("?")[0]
        if any("checksum" in name for name in headers if name != "x-amz-checksum-mode"):
            return (400, {}, error("InvalidArgument", "Unsupported header x-amz-checksum-crc32 received for this API call."))
        if "list-type" in path:
            one = "<Contents><Key>{}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
            items = "".join(one.format(key[5:]) for key in self.objects)
            return (200, {}, f"<ListBucketResult>{items}<IsTruncated>false</IsTruncated></ListBucketResult>".encode())
        if method == "PUT":
            self.objects[key] = b"?"
            return (200, {"etag": '"1"'}, b"")
        if method == "DELETE":
            self.objects.pop(key, None)
            return (204, {}, b"")
        return (404, {}, error("NoSuchKey", "There is none."))


def test_a_server_without_checksums_works_as_the_message_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Checksumless()) as (address, _):
        assert "AWS_REQUEST_CHECKSUM_CALCULATION=when_required" in str(told(lambda: opened(address).write("a", b"x")))
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        store = opened(address)
        store.write("a", b"x", if_absent=True)
        store.write_large("b", memoryview(b"x"))
        assert [info.key for info in store.list("")] == ["a", "b"]
        # Deletes at once have a checksum by force: the server refuses, and each goes by itself.
        assert store.delete_prefix("") == 2 and list(store.list("")) == []


def test_a_dead_proxy_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = s3_servers.free_ports(1)
    for name, address in {"HTTP_PROXY": "http://s3.lab.example:9000", "HTTPS_PROXY": "https://s3.lab.example"}.items():
        monkeypatch.setenv(name, f"http://user:topsecret@127.0.0.1:{port}")
        found = told(lambda address=address: opened(address).read("a"))  # type: ignore[misc]
        assert isinstance(found, StoreUnreachable)
        assert f"http://127.0.0.1:{port}" in str(found) and "NO_PROXY=s3.lab.example" in str(found)
        monkeypatch.delenv(name)
    with serving(lambda *_: (403, {"content-type": "text/html"}, HTML)) as (proxy, _):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        assert "NO_PROXY=s3.lab.example" in str(told(lambda: opened("http://s3.lab.example:9000").read("a")))


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
def test_what_speaks_otherwise_is_told(words: bytes, scheme: str, expected: str) -> None:
    with speaking(words) as host:
        for key in ("read", "list"):
            store = opened(f"{scheme}://{host}")
            text = str(told((lambda: store.read("a")) if key == "read" else (lambda: list(store.list("")))))  # noqa: B023
            assert expected in text, text


def test_a_console_of_minio_is_told(minio: s3_servers.S3Server) -> None:
    """The browser of the tests' server is off; what its port for pages answers to S3 is refused all the same."""
    address = f"{minio.endpoint}/minio"
    told(lambda: list(open_store(Settings.load(store=f"s3://lab?endpoint_override={address}"), 0.3).list("")))


def test_a_location_without_endpoint_is_aws() -> None:
    assert S3Location("lab", "", None).url == "s3://lab"
