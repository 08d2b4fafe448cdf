"""Refusals of S3 servers: their own sentence is kept, and the remedy is named."""

from pathlib import Path

import pytest
from support.http_answers import Answer, error, opened, refused, serving, verbs

pytestmark = pytest.mark.usefixtures("any_keys")

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
            text = str(refused(every[verb]))
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
            assert right in str(refused(every[verb])), verb  # fmt: skip


def test_secrets_that_a_server_repeats_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "topsecret/token+long=")

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        return (400, {}, error("Odd", f"{headers['authorization']} {headers['x-amz-security-token']} topsecret-topsecret"))

    with serving(answer) as (address, _):
        text = str(refused(lambda: opened(address).read("a")))
    assert "Odd" in text and not any(len(word) == 64 for word in text.replace("=", " ").split()), text


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
        assert "AWS_REQUEST_CHECKSUM_CALCULATION=when_required" in str(refused(lambda: opened(address).write("a", b"x")))
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        store = opened(address)
        store.write("a", b"x", if_absent=True)
        store.write_large("b", memoryview(b"x"))
        assert [info.key for info in store.objects("")] == ["a", "b"]
        # Deletes at once have a checksum by force: the server refuses, and each goes by itself.
        assert store.delete_prefix("") == 2 and list(store.objects("")) == []
