"""Buckets, rights and credentials that are missing, wrong, or away for a while."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from support import s3_servers
from support.s3_stores import one_sentence, opened, use

from service.errors import Conflict, CredentialsRefused, InvalidInput, NotFound, StoreError, StoreUnreachable
from service.storage.location import S3Location
from service.storage.s3 import MANY
from service.storage.s3_errors import translate


def test_a_missing_bucket_is_to_be_created(server: s3_servers.S3Server, tmp_path: Path) -> None:
    store = opened("s3://no-such-bucket-here")
    (tmp_path / "file").write_bytes(b"x")
    attempts: list[Callable[[], object]] = [
        store.check,
        lambda: store.write("a", b""),
        lambda: store.read("a"),
        lambda: list(store.objects("")),
        lambda: store.list_folders("runs/"),
        lambda: store.upload(tmp_path / "file", "a"),
        lambda: store.read_many(["a", "b"]),
        lambda: store.read_many([f"a{number}" for number in range(60)]),
        lambda: store.exists("a"),
        lambda: store.download("a", tmp_path / "target"),
        lambda: store.delete("a"),
    ]
    for attempt in attempts:
        with pytest.raises(StoreError) as caught:
            attempt()
        one_sentence(caught, "no-such-bucket-here", "create it", server.endpoint)


def test_a_wrong_secret_is_named_and_not_repeated(server: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = server.bucket()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-" + server.secret_key)
    store = opened(f"s3://{bucket}")
    many = [f"a{number}" for number in range(60)]
    for attempt in (store.check, lambda: store.read("a"), lambda: store.exists("a"), lambda: store.read_many(many)):
        with pytest.raises(StoreError) as caught:
            attempt()
        one_sentence(caught)
        assert not isinstance(caught.value, NotFound) and server.secret_key not in str(caught.value)
    with pytest.raises(StoreError, match="AWS_SECRET_ACCESS_KEY"):
        store.check()


def test_an_unknown_key_is_named(server: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    with pytest.raises(StoreError) as caught:
        opened(f"s3://{server.bucket()}").check()
    one_sentence(caught, "AWS_ACCESS_KEY_ID")


@pytest.mark.parametrize("names", [("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("AWS_SECRET_ACCESS_KEY",)])
def test_missing_credentials_are_asked_for(
    seaweedfs: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    use(seaweedfs, monkeypatch)
    for name in names:
        monkeypatch.delenv(name)
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        opened(f"s3://{seaweedfs.bucket()}").check()
    one_sentence(caught, "AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match="AWS_SECRET_ACCESS_KEY"):
        opened("s3://bucket").read_into("a", memoryview(bytearray(1)))
    with pytest.raises(StoreError, match="AWS_SECRET_ACCESS_KEY"):
        opened("s3://bucket").write_large("a", memoryview(b"content"))
    assert time.monotonic() - began < 4


def test_credentials_that_are_away_for_a_moment_are_waited_for(
    seaweedfs: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They are fetched by a process that fails now and then, and each time are good for a moment alone."""
    keys = {"AccessKeyId": seaweedfs.access_key, "SecretAccessKey": seaweedfs.secret_key}
    broken = tmp_path / "broken"
    script = tmp_path / "keys.py"
    script.write_text(
        f"import datetime, json, os, sys\nif os.path.exists({str(broken)!r}): sys.exit('no keys now')\n"
        "end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)\n"
        f"print(json.dumps({{'Version': 1, **{keys!r}, 'Expiration': end.isoformat()}}))\n"
    )
    (tmp_path / "config").write_text(f"[profile lab]\ncredential_process = {sys.executable} {script}\n")
    bucket = seaweedfs.bucket()
    use(seaweedfs, monkeypatch, AWS_PROFILE="lab", AWS_CONFIG_FILE=str(tmp_path / "config"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    store = opened(f"s3://{bucket}", patience=20)
    store.write("a", b"content")
    for action in (
        lambda: store.read("a") == b"content",
        # What does not go by boto3 asks for credentials by itself.
        lambda: store.read_many(["a", *(f"none/{number}" for number in range(MANY))]) == {"a": b"content"},
    ):
        broken.touch()
        time.sleep(1.1)
        threading.Timer(1.5, broken.unlink).start()
        began = time.monotonic()
        assert action()
        assert time.monotonic() - began > 1
    broken.touch()
    time.sleep(1.1)
    short = opened(f"s3://{bucket}", patience=1)
    with pytest.raises(CredentialsRefused) as caught:
        short.read("a")
    one_sentence(caught, "cannot be fetched", "no keys now")


def test_old_credentials_are_refused_at_once_and_those_written_anew_are_taken(
    seaweedfs: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file, bucket = tmp_path / "credentials", seaweedfs.bucket()

    def write(secret: str) -> None:
        file.write_text(f"[default]\naws_access_key_id = {seaweedfs.access_key}\naws_secret_access_key = {secret}\n")

    use(seaweedfs, monkeypatch, AWS_SHARED_CREDENTIALS_FILE=str(file))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    write("an-old-one")
    store = opened(f"s3://{bucket}", patience=20)
    began = time.monotonic()
    with pytest.raises(CredentialsRefused):
        store.write("a", b"content")
    assert time.monotonic() - began < 2
    write(seaweedfs.secret_key)
    store = opened(f"s3://{bucket}", patience=20)
    store.write("a", b"content")
    assert store.read("a") == b"content"


@pytest.mark.parametrize(
    ("code", "word"), [("EntityTooLarge", "too large"), ("QuotaExceeded", "full"), ("ExpiredToken", "credentials")]
)
def test_refusals_are_named_with_their_cause(code: str, word: str) -> None:
    error = ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "PutObject")  # type: ignore[typeddict-item]
    assert word in str(translate(error, "a", S3Location("bucket", "", None), 1.0))


def test_a_profile_that_does_not_exist_is_invalid(seaweedfs: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use(seaweedfs, monkeypatch, AWS_PROFILE="nobodys-profile")
    with pytest.raises(InvalidInput, match="nobodys-profile"):
        opened("s3://bucket").check()


def test_who_may_only_read_reads_and_learns_which_right_lacks(
    seaweedfs: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert seaweedfs.read_only is not None
    use(seaweedfs, monkeypatch)
    url = f"s3://{seaweedfs.bucket()}/prefix"
    opened(url).write("data/a", b"content")
    key, secret = seaweedfs.read_only
    use(seaweedfs, monkeypatch, AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)
    store = opened(url)
    assert store.read("data/a") == b"content" and [info.key for info in store.objects("")] == ["data/a"]
    for attempt in (
        store.check,
        lambda: store.write("data/b", b""),
        lambda: store.write("data/b", b"", if_absent=True),
        lambda: store.delete("data/a"),
        lambda: store.delete_prefix("data/"),
    ):
        with pytest.raises(StoreError) as caught:
            attempt()
        one_sentence(caught)
        assert not isinstance(caught.value, Conflict | NotFound | StoreUnreachable)
    with pytest.raises(StoreError, match="right to"):
        store.write("data/b", b"")
    assert [info.key for info in store.objects("")] == ["data/a"]
