"""Where a store is, from what a user types and what the environment says."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.settings import Settings
from service.storage import open_store
from service.storage.local import LocalStore
from service.storage.location import LocalLocation, S3Location, check_endpoint, parse_location


def test_a_plain_path_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_location(str(tmp_path / "a b"), None) == LocalLocation(tmp_path / "a b")
    assert parse_location("./store", None) == LocalLocation(tmp_path / "store")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert parse_location("~/store", None) == LocalLocation(tmp_path / "home/store")


def test_an_endpoint_does_not_make_a_folder_a_bucket(tmp_path: Path) -> None:
    assert parse_location(str(tmp_path), "http://host:1") == LocalLocation(tmp_path)


@pytest.mark.parametrize("text", ["file:///data/my%20store", "file://localhost/data/my%20store", "FILE:///data/my%20store"])
def test_a_file_url_is_a_folder(text: str) -> None:
    assert parse_location(text, None) == LocalLocation(Path("/data/my store"))


@pytest.mark.parametrize("text", ["file://data/store", "file://", "file://host/data"])
def test_a_file_url_of_another_host_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="three slashes"):
        parse_location(text, None)


@pytest.mark.parametrize(
    ("text", "bucket", "prefix"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://bucket/some/prefix/", "bucket", "some/prefix"),
        ("S3://my.bucket-1/p", "my.bucket-1", "p"),
    ],
)
def test_an_s3_url_is_a_bucket_and_a_prefix(text: str, bucket: str, prefix: str) -> None:
    assert parse_location(text, None) == S3Location(bucket, prefix, None)


def test_a_url_shows_itself_again() -> None:
    location = S3Location("bucket", "a/b", "http://127.0.0.1:9000")
    assert location.url == "s3://bucket/a/b?endpoint_override=http://127.0.0.1:9000"
    assert parse_location(location.url, None) == location
    assert S3Location("bucket", "", None).url == "s3://bucket"


@given(
    bucket=st.from_regex(r"[a-z0-9][a-z0-9-]{1,30}[a-z0-9]", fullmatch=True),
    prefix=st.from_regex(r"([a-z0-9_.-]{1,8}(/[a-z0-9_-]{1,8}){0,3})?", fullmatch=True),
    endpoint=st.sampled_from([None, "http://127.0.0.1:9000", "https://s3.example.org"]),
)
def test_every_location_can_be_typed_again(bucket: str, prefix: str, endpoint: str | None) -> None:
    location = S3Location(bucket, prefix, endpoint)
    assert parse_location(location.url, None) == location


@pytest.mark.parametrize("name", ["DELAYLINE_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_the_endpoint_comes_from_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://from-env:9000/")
    settings = Settings.load(store="s3://bucket")
    assert parse_location(settings.store, settings.s3_endpoint) == S3Location("bucket", "", "http://from-env:9000")


def test_delaylines_own_endpoint_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://third:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://second:1")
    assert Settings.load().s3_endpoint == "http://second:1"
    monkeypatch.setenv("DELAYLINE_S3_ENDPOINT", "http://first:1")
    assert Settings.load().s3_endpoint == "http://first:1"


def test_the_urls_endpoint_comes_before_the_environment() -> None:
    text = "s3://bucket/p?endpoint_override=http://in-url:9000"
    assert parse_location(text, "http://from-env:1") == S3Location("bucket", "p", "http://in-url:9000")


@pytest.mark.parametrize("endpoint", ["localhost:9000", "127.0.0.1", "minio", "//minio", "ftp://minio"])
def test_an_endpoint_without_http_is_refused_with_the_remedy(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELAYLINE_S3_ENDPOINT", endpoint)
    with pytest.raises(InvalidInput, match="http://") as caught:
        open_store(Settings.load(store="s3://bucket"))
    assert endpoint in str(caught.value) and caught.value.exit_code == 2
    assert "http://ftp://" not in str(caught.value) and "http:////" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["http://", "https:///path", "http://host:port", "http://host:99999", "http://[::1"])
def test_an_endpoint_that_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_endpoint(endpoint)
    assert endpoint in str(caught.value) and "has no scheme" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "s3://key:topsecret@bucket/prefix",
        "s3://topsecret@bucket",
        "s3://bucket?endpoint_override=http://key:topsecret@host:9000",
        "s3://key:topsecret/with/slash@bucket",
        "https://key:topsecret@host/bucket",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidInput, match="AWS_SECRET_ACCESS_KEY") as caught:
        parse_location(text, None)
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["http://key:topsecret@host", "key:topsecret@host:9000", "key:topsecret@"])
def test_credentials_in_an_endpoint_are_refused_and_not_repeated(endpoint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_location("s3://bucket", endpoint)
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize("bucket", ["My_Bucket", "ab", "-abc", "abc-", "a" * 64, "with space", "a..b", "bücket", "%41bc", "a:b"])
def test_a_bucket_name_that_no_server_takes_is_refused(bucket: str) -> None:
    with pytest.raises(InvalidInput, match="bucket") as caught:
        parse_location(f"s3://{bucket}/prefix", None)
    assert bucket[:30] in str(caught.value)


@pytest.mark.parametrize("text", ["s3://", "s3:///prefix"])
def test_a_url_without_a_bucket_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="names no bucket"):
        parse_location(text, None)


@pytest.mark.parametrize("text", ["s3://bucket/a//b", "s3://bucket/../b", "s3://bucket/./b", "s3://bucket/a#b", "s3://[bucket"])
def test_a_prefix_that_means_two_things_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_location(text, None)


@pytest.mark.parametrize("text", ["s3://bucket?region=x", "s3://bucket?endpoint=http://h", "s3://bucket?endpoint_override="])
def test_an_unknown_or_empty_option_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="endpoint_override"):
        parse_location(text, None)


@pytest.mark.parametrize(("text", "scheme"), [("gs://bucket", "gs"), ("http://host/x", "http"), ("s3a://bucket", "s3a")])
def test_another_scheme_is_refused(text: str, scheme: str) -> None:
    with pytest.raises(InvalidInput, match=f"scheme '{scheme}'"):
        parse_location(text, None)


@pytest.mark.parametrize("text", ["", "  ", "a\0b", "s3:bucket", "s3:/bucket/prefix", "file:/data"])
def test_what_is_no_store_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_location(text, None)


def test_opening_a_store_touches_nothing(tmp_path: Path) -> None:
    opened = open_store(Settings.load(store=str(tmp_path / "store")))
    assert isinstance(opened, LocalStore) and not (tmp_path / "store").exists()
