"""A store on a real S3 server: large files whole, lost answers without harm, its errors in one sentence."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from support import s3_servers
from support.s3_stores import MIB, one_sentence, opened

from service.errors import Conflict, StoreError


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
    assert list(store.objects("")) == []
    assert not server.client().list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_lost_answers_do_no_harm(server: s3_servers.S3Server, lost_answers: set[str], tmp_path: Path) -> None:
    data = hashlib.shake_128(b"lost").digest(17 * MIB)
    (tmp_path / "source").write_bytes(data)
    store = opened(f"s3://{server.bucket()}")
    version = store.write("swap", b"0")
    store.write("gone", b"x")
    names = ("put_object", "upload_part", "create_multipart_upload", "complete_multipart_upload", "delete_object", "get_object")
    for attempt in (
        lambda: store.write("claim", b"mine", if_absent=True),
        lambda: store.write("swap", b"1", if_version=version),
        lambda: store.upload(tmp_path / "source", "large"),
        lambda: store.download("large", tmp_path / "target"),
        lambda: store.delete("gone"),
    ):
        lost_answers.update(names)
        attempt()
    lost_answers.clear()
    assert store.read("claim") == b"mine" and store.read("swap") == b"1" and not store.exists("gone")
    assert (tmp_path / "target").read_bytes() == data


@pytest.mark.parametrize("condition", ["if_absent", "if_version"])
def test_a_lost_answer_to_a_conditional_upload_is_no_conflict(
    server: s3_servers.S3Server, lost_answers: set[str], tmp_path: Path, condition: str
) -> None:
    (tmp_path / "source").write_bytes(hashlib.shake_128(b"lost").digest(17 * MIB))
    (tmp_path / "other").write_bytes(hashlib.shake_128(b"other").digest(17 * MIB))
    store = opened(f"s3://{server.bucket()}")
    options: dict[str, Any] = {"if_absent": True} if condition == "if_absent" else {"if_version": store.write("large", b"0")}
    lost_answers.add("complete_multipart_upload")
    digest = store.upload(tmp_path / "source", "large", **options)
    assert store.download("large", tmp_path / "target") == digest
    for lost in ({"complete_multipart_upload"}, set[str]()):
        lost_answers |= lost
        with pytest.raises(Conflict):
            store.upload(tmp_path / "other", "large", **options)
    assert store.download("large", tmp_path / "target") == digest


def test_a_lost_answer_to_a_stream_does_no_harm(server: s3_servers.S3Server, lost_answers: set[str]) -> None:
    store = opened(f"s3://{server.bucket()}")
    data = memoryview(hashlib.shake_128(b"stream").digest(66 * MIB))
    lost_answers |= {"upload_part", "create_multipart_upload", "complete_multipart_upload"}
    digest = store.write_stream("large", [data[:1000], data[1000:]], len(data))
    room = bytearray(len(data))
    assert store.read_into("large", memoryview(room)) == digest and room == data


def test_somebody_elses_claim_is_no_lost_answer(server: s3_servers.S3Server) -> None:
    store = opened(f"s3://{server.bucket()}")
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
