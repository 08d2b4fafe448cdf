"""What a store says and does when its server refuses, is away or comes back."""

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from support import s3_servers

from service.errors import Conflict, CredentialsRefused, InvalidInput, NotFound, StoreError, StoreUnreachable
from service.settings import Settings
from service.storage import open_store
from service.storage.base import Store
from service.storage.location import S3Location
from service.storage.s3 import MANY, S3Store
from service.storage.s3_errors import translate

MIB = 1024**2


def use(server: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    for name, value in {**server.environment, **changes}.items():
        monkeypatch.setenv(name, value)


def opened(url: str, patience: float = 5.0) -> Store:
    return open_store(Settings.load(store=url), patience)


def one_sentence(error: pytest.ExceptionInfo[StoreError], *words: str) -> None:
    text = str(error.value)
    assert error.value.exit_code == 5 and "\n" not in text and text.endswith(".") and len(text) < 400, text
    for word in words:
        assert word in text, text


@pytest.fixture(params=["seaweedfs", "minio"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> s3_servers.S3Server:
    running: s3_servers.S3Server = request.getfixturevalue(request.param)
    use(running, monkeypatch)
    return running


def test_a_missing_bucket_is_to_be_created(server: s3_servers.S3Server, tmp_path: Path) -> None:
    store = opened("s3://no-such-bucket-here")
    (tmp_path / "file").write_bytes(b"x")
    attempts: list[Callable[[], object]] = [
        store.check,
        lambda: store.write("a", b""),
        lambda: store.read("a"),
        lambda: list(store.list("")),
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


def test_credentials_that_are_written_anew_are_read_anew(
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
    for lost in (lambda: write("an-old-one"), file.unlink):
        lost()
        store._bucket._forget_credentials()  # type: ignore[attr-defined]
        threading.Timer(1.5, write, args=(seaweedfs.secret_key,)).start()
        assert store.read("a") == b"content"


@pytest.mark.parametrize(
    ("code", "word"), [("EntityTooLarge", "too large"), ("QuotaExceeded", "full"), ("ExpiredToken", "credentials")]
)
def test_refusals_are_told_as_what_they_are(code: str, word: str) -> None:
    error = ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "PutObject")  # type: ignore[typeddict-item]
    assert word in str(translate(error, "a", S3Location("bucket", "", None), 1.0))


def test_a_profile_that_does_not_exist_is_invalid(seaweedfs: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use(seaweedfs, monkeypatch, AWS_PROFILE="nobodys-profile")
    with pytest.raises(InvalidInput, match="nobodys-profile"):
        opened("s3://bucket").check()


def test_who_may_only_read_reads_and_is_told_so(seaweedfs: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seaweedfs.read_only is not None
    use(seaweedfs, monkeypatch)
    url = f"s3://{seaweedfs.bucket()}/prefix"
    opened(url).write("data/a", b"content")
    key, secret = seaweedfs.read_only
    use(seaweedfs, monkeypatch, AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)
    store = opened(url)
    assert store.read("data/a") == b"content" and [info.key for info in store.list("")] == ["data/a"]
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
    assert [info.key for info in store.list("")] == ["data/a"]


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


def test_parts_of_a_large_file_arrive_as_one(server: s3_servers.S3Server, tmp_path: Path) -> None:
    data = hashlib.shake_128(b"large").digest(33 * MIB + 5)
    (tmp_path / "source").write_bytes(data)
    store = opened(f"s3://{server.bucket()}/p")
    expected = hashlib.sha256(data).hexdigest()
    assert store.upload(tmp_path / "source", "large") == expected
    assert store.download("large", tmp_path / "target") == expected
    assert (tmp_path / "target").read_bytes() == data
    assert store.read_range("large", 16 * MIB - 3, 6) == data[16 * MIB - 3 : 16 * MIB + 3]


def test_an_upload_that_fails_leaves_no_parts(server: s3_servers.S3Server, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * (17 * MIB))
    bucket = server.bucket()
    store = opened(f"s3://{bucket}")

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.upload(tmp_path / "source", "large", stop)
    assert list(store.list("")) == []
    assert not server.client().list_multipart_uploads(Bucket=bucket).get("Uploads")


class LosesAnswers:
    """A client whose first answer to each of some requests is lost once the server has done what was asked."""

    def __init__(self, client: Any, *names: str) -> None:
        self._client = client
        self._lost = set(names)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name not in self._lost:
            return method
        self._lost.remove(name)

        def call(**arguments: Any) -> None:
            method(**arguments)
            raise ReadTimeoutError(endpoint_url="http://server")

        return call


def test_lost_answers_do_no_harm(server: s3_servers.S3Server, tmp_path: Path) -> None:
    data = hashlib.shake_128(b"lost").digest(17 * MIB)
    (tmp_path / "source").write_bytes(data)
    store = opened(f"s3://{server.bucket()}")
    assert isinstance(store, S3Store)
    version = store.write("swap", b"0")
    store.write("gone", b"x")
    whole = store._bucket.client
    names = ("put_object", "upload_part", "create_multipart_upload", "complete_multipart_upload", "delete_object", "get_object")
    for attempt in (
        lambda: store.write("claim", b"mine", if_absent=True),
        lambda: store.write("swap", b"1", if_version=version),
        lambda: store.upload(tmp_path / "source", "large"),
        lambda: store.download("large", tmp_path / "target"),
        lambda: store.delete("gone"),
    ):
        store._bucket.client = LosesAnswers(whole, *names)
        attempt()
    assert store.read("claim") == b"mine" and store.read("swap") == b"1" and not store.exists("gone")
    assert (tmp_path / "target").read_bytes() == data


@pytest.mark.parametrize("condition", ["if_absent", "if_version"])
def test_a_lost_answer_to_a_conditional_upload_is_no_conflict(
    server: s3_servers.S3Server, tmp_path: Path, condition: str
) -> None:
    (tmp_path / "source").write_bytes(hashlib.shake_128(b"lost").digest(17 * MIB))
    (tmp_path / "other").write_bytes(hashlib.shake_128(b"other").digest(17 * MIB))
    store = opened(f"s3://{server.bucket()}")
    assert isinstance(store, S3Store)
    options: dict[str, Any] = {"if_absent": True} if condition == "if_absent" else {"if_version": store.write("large", b"0")}
    whole = store._bucket.client
    store._bucket.client = LosesAnswers(whole, "complete_multipart_upload")
    digest = store.upload(tmp_path / "source", "large", **options)
    assert store.download("large", tmp_path / "target") == digest
    for client in (LosesAnswers(whole, "complete_multipart_upload"), whole):
        store._bucket.client = client
        with pytest.raises(Conflict):
            store.upload(tmp_path / "other", "large", **options)
    assert store.download("large", tmp_path / "target") == digest


def test_a_lost_answer_to_a_stream_does_no_harm(server: s3_servers.S3Server) -> None:
    store = opened(f"s3://{server.bucket()}")
    assert isinstance(store, S3Store)
    data = memoryview(hashlib.shake_128(b"stream").digest(66 * MIB))
    names = ("upload_part", "create_multipart_upload", "complete_multipart_upload")
    store._bucket.client = LosesAnswers(store._bucket.client, *names)
    digest = store.write_stream("large", [data[:1000], data[1000:]], len(data))
    room = bytearray(len(data))
    assert store.read_into("large", memoryview(room)) == digest and room == data


def begun(server: s3_servers.S3Server, bucket: str, key: str, count: int = 1) -> None:
    """What a killed writer leaves: an upload with parts that nobody will put together."""
    client = server.client()
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    for number in range(1, count + 1):
        client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=b"x" * 5 * MIB)


def test_unfinished_uploads_are_found_below_the_prefix_and_dropped(server: s3_servers.S3Server) -> None:
    bucket = server.bucket()
    store, beside = opened(f"s3://{bucket}/team/a"), opened(f"s3://{bucket}/team/b")
    begun(server, bucket, "team/a/runs/one/model.keras", 2)
    begun(server, bucket, "team/a/runs/one/model.keras")
    begun(server, bucket, "team/b/model.keras")
    begun(server, bucket, "team/ab/model.keras")
    found = store.unfinished(["runs/one/model.keras", "runs/two/model.keras"])
    assert [(each.key, each.bytes) for each in sorted(found, key=lambda each: each.bytes)] == [
        ("runs/one/model.keras", 5 * MIB),
        ("runs/one/model.keras", 10 * MIB),
    ]
    assert all(-2 < each.age < 120 for each in found)
    for each in [*found, *found]:
        store.forget(each)
    assert store.unfinished(["runs/one/model.keras"]) == []
    assert [each.key for each in beside.unfinished(["model.keras"])] == ["model.keras"]


def test_minio_shows_the_uploads_of_known_keys_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lists by whole keys, and without a prefix what it remembers; a restarted one remembers nothing."""
    binary = s3_servers.minio_binary()
    if binary is None:
        pytest.skip("MinIO is not on the PATH and not built: run `just minio` (it needs Go)")
    with s3_servers.running(s3_servers.minio(tmp_path / "server", binary)) as running:
        use(running, monkeypatch)
        bucket = running.bucket()
        begun(running, bucket, "p/runs/one/model.keras")
        begun(running, bucket, "p/runs/one/checkpoints/0000000010/model.safetensors")
        store = opened(f"s3://{bucket}/p", patience=20)
        assert len(store.unfinished()) == 2
        running.stop()
        running.start()
        assert [each.key for each in store.unfinished(["runs/one/model.keras"])] == ["runs/one/model.keras"]


def test_a_claim_of_somebody_else_is_not_taken_for_a_lost_answer(server: s3_servers.S3Server) -> None:
    store = opened(f"s3://{server.bucket()}")
    assert isinstance(store, S3Store)
    store.write("claim", b"theirs")
    with pytest.raises(Conflict):
        store.write("claim", b"theirs", if_absent=True)


def test_a_file_that_cannot_be_read_is_an_error_of_ours(server: s3_servers.S3Server, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        opened(f"s3://{server.bucket()}").upload(tmp_path / "none", "a")
    one_sentence(caught, "none", "No such file")


def test_a_download_into_a_folder_that_is_gone_leaves_nothing(server: s3_servers.S3Server, tmp_path: Path) -> None:
    store = opened(f"s3://{server.bucket()}")
    store.write("a", b"content")
    with pytest.raises(StoreError) as caught:
        store.download("a", tmp_path / "none" / "target")
    one_sentence(caught, "none")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def own_seaweedfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3_servers.S3Server]:
    """A server that a test may stop."""
    with s3_servers.running(s3_servers.seaweedfs(tmp_path / "server")) as running:
        use(running, monkeypatch)
        yield running


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
    assert [info.key for info in store.list("row/")] == [f"row/{number:06d}" for number in range(1, written + 1)]
