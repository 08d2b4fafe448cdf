"""What answers but is no S3 server: a page, a redirect, JSON. Real S3 servers cannot be made to answer so."""

import gc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import s3_servers
from support.http_answers import DOCTYPE, HTML, Answer, opened, refused, serving, verbs

from service.errors import Conflict, NotFound, StoreUnreachable
from service.settings import Settings
from service.storage import open_store
from service.storage.s3_answers import one_line
from service.storage.s3_reached import without_secrets

pytestmark = pytest.mark.usefixtures("any_keys")

RSS = b'<?xml version="1.0"?><rss version="2.0"><channel/></rss>'


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
    never_an_empty_store(PAGES[name], tmp_path)


# urllib3 2.8.0 fails over the headers that botocore gives it (connectionpool.py, urlopen), and leaves its connection to the collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_neither_is_what_redirects_by_303(tmp_path: Path) -> None:
    never_an_empty_store((303, {"location": "http://127.0.0.1/"}, b""), tmp_path)
    gc.collect()


def never_an_empty_store(page: Answer, tmp_path: Path) -> None:
    with serving(lambda *_: page) as (address, asked):
        store = opened(address)
        for verb, attempt in verbs(store, tmp_path).items():
            asked.clear()
            found = refused(attempt)
            assert not isinstance(found, NotFound | Conflict | StoreUnreachable), (verb, found)
            assert f"What answers at {address} is no S3 server" in str(found), (verb, found)
            assert str(page[0]) in str(found), (verb, found)
            # Nothing is followed, and nothing asked again that would be answered alike; many reads, last here, begin side by side.
            assert len(asked) <= 3 or verb.startswith("read_many"), (verb, asked)


def test_an_empty_answer_is_no_list_and_no_object(tmp_path: Path) -> None:
    for status in (200, 404):
        with serving(lambda *_, status=status: (status, {}, b"")) as (address, _):
            every = verbs(opened(address), tmp_path)
            # An empty 200 is what deletes and aborts have.
            for verb in ("list", "list_folders", "read", "read_into", "exists", "write", "upload", "upload parts", "unfinished"):
                assert "no S3 server" in str(refused(every[verb])), verb


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
        text = str(refused(lambda: list(opened(address).objects(""))))
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
        assert list(opened(address, 5.0).objects("")) == []
        left = 10**6
        found = refused(lambda: opened(address).read("a"))
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


def test_answers_that_cannot_be_read_are_errors_in_one_sentence(tmp_path: Path) -> None:
    strange = [
        b"<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>p/a</Key><Size>many</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>",
    ]
    for body in strange:
        with serving(lambda *_, body=body: (200, {}, body)) as (address, _):
            refused(lambda address=address: list(opened(address).objects("")))  # type: ignore[misc]


def test_a_server_without_ranges_gives_the_range() -> None:
    with serving(lambda *_: (200, {"etag": '"1"'}, b"0123456789")) as (address, _):
        assert opened(address).read_range("a", 2, 3) == b"234"


@given(st.text(), st.integers(2, 40))
def test_a_strange_sentence_is_one_line(text: str, most: int) -> None:
    line = one_line(text, most)
    assert len(line) <= most and line.isprintable() and line == line.strip()
    assert without_secrets(line, None) is not None


def test_a_console_of_minio_is_refused(minio: s3_servers.S3Server) -> None:
    """The browser of the tests' server is off; what its port for pages answers to S3 is refused all the same."""
    address = f"{minio.endpoint}/minio"
    refused(lambda: list(open_store(Settings.load(store=f"s3://lab?endpoint_override={address}"), 0.3).objects("")))
