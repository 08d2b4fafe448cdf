"""Checks that an answer comes from an S3 server: a web page, a redirect or JSON is not an empty bucket or a missing object."""

import contextlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError, IncompleteReadError

_ROOT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml.*?\?>)?(?:\s|<!--.*?-->)*<(?:[\w.-]+:)?([\w.-]+)", re.DOTALL)
_TITLE = re.compile(rb"<(title|h1)[^>]*>(.*?)</\1", re.DOTALL | re.IGNORECASE)
_LISTED = {
    "ListObjectsV2": b"ListBucketResult",
    "DeleteObjects": b"DeleteResult",
    "CreateMultipartUpload": b"<UploadId",
    "CompleteMultipartUpload": b"Result",
    "ListMultipartUploads": b"Result",
    "ListParts": b"Result",
}
"""What a request's answer holds when it is S3's."""
_TAGGED = ("GetObject", "HeadObject", "PutObject", "UploadPart")
"""Requests whose answer has the object's version in a header."""
_S3_HEADERS = ("x-amz-", "x-goog-", "x-guploader-", "x-rgw-", "x-minio-", "x-oss-", "x-obs-")
_PASSING = (408, 429, 500, 502, 503, 504)
"""Statuses of a load balancer's own page while it reaches no server."""
_WITHOUT_WORDS = (304, 412, 416)
"""Statuses that say it all."""
_SEEN = 4096
"""Bytes of an answer that are looked at for what it is."""
WORDS = 120
"""Letters of an answer that are shown."""


class NotS3(BotoCoreError):
    """An answer that no S3 server gives: `seen` says what it was, `remedy` what to do about it; `passing`: it may end without that."""

    fmt = "{seen}"

    def __init__(self, seen: str, remedy: str = "", passing: bool = False) -> None:
        super().__init__(seen=seen)
        self.seen, self.remedy, self.passing = seen, remedy, passing


def check_answers(client: Any) -> None:
    """Have boto3's client raise NotS3 for every answer that no S3 server may have given."""
    client.meta.events.register_first("before-parse.s3", _drop_namespace)
    # Not before the parsing: botocore has then made a server's failure of a success whose body is no XML.
    client.meta.events.register_first("response-received.s3", _check)


def _drop_namespace(response_dict: dict[str, Any], **_: Any) -> None:
    """botocore reads an error that names no namespace."""
    body = response_dict["body"]
    if response_dict["status_code"] >= 300 and isinstance(body, bytes):
        response_dict["body"] = re.sub(rb"<Error\s[^>]*>", b"<Error>", body, count=1)


def _check(response_dict: dict[str, Any] | None, **_: Any) -> None:
    if response_dict is None:
        return
    try:
        _check_answer(response_dict)
    except BotoCoreError:
        # A stream that nobody will read holds its connection.
        with contextlib.suppress(AttributeError):
            response_dict["body"].close()
        raise


def _check_answer(response_dict: dict[str, Any]) -> None:
    name = str(response_dict["context"]["operation_name"])
    status, headers, body = int(response_dict["status_code"]), response_dict["headers"], response_dict["body"]
    content = body[:_SEEN] if isinstance(body, bytes) else b""
    length = str(headers.get("content-length", ""))
    if isinstance(body, bytes) and length.isdigit() and len(body) < int(length) and not name.startswith("Head"):
        raise IncompleteReadError(actual_bytes=len(body), expected_bytes=int(length))
    if status < 300:
        _check_success(name, status, headers, content)
    elif status < 400 and status != 304:
        _check_redirect(name, status, headers, content)
    else:
        _check_refusal(name, status, content)


def is_object(headers: Mapping[str, str]) -> bool:
    """Whether an answer's headers are those of an object in S3, and not of a file or a page on some web server.

    Web servers have versions of pages too, but none of the headers that S3 servers add.
    """
    named = {name.lower(): value for name, value in headers.items()}
    if any(name.startswith(_S3_HEADERS) for name in named):
        return "etag" in named
    kind = named.get("content-type", "").lower()
    return bool(named.get("etag")) and not named["etag"].startswith("W/") and not kind.startswith("text/html")


def one_line(text: str | bytes, most: int = WORDS) -> str:
    """A foreign text cut to so many letters, on one line, for a sentence of ours."""
    told = text.decode(errors="replace") if isinstance(text, bytes) else text
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in told).split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def origin(address: str) -> str:
    """Scheme, host and port of an address, without what may be secret; empty for a path."""
    try:
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.scheme and parts.hostname else ""


def _check_success(name: str, status: int, headers: Mapping[str, str], content: bytes) -> None:
    if name in _LISTED:
        root = _root(content)
        if root != b"Error" and (root is None or not root.endswith(b"Result") or _LISTED[name] not in content):
            raise NotS3(f"{status} with {_described(content)}")
    elif name in _TAGGED:
        if not is_object(headers):
            raise NotS3(f"{status} with {_kind_of(headers, content)}")
    elif content.strip():
        raise NotS3(f"{status} with {_described(content)}")


def _check_redirect(name: str, status: int, headers: Mapping[str, str], content: bytes) -> None:
    if headers.get("x-amz-bucket-region") or re.search(rb"<Region>[\w-]+</Region>", content):
        return
    if _root(content) == b"Error":
        # Not left to botocore, which asks a bucket for its region for ever where it is redirected again.
        fields = re.findall(rb"<(Code|Message|Endpoint)>([^<]*)</", content)
        told = {field.decode(): value.decode(errors="replace") for field, value in fields}
        raise ClientError({"Error": told, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": dict(headers)}}, name)  # type: ignore[typeddict-item]
    where = headers.get("location", "")
    target = origin(where)
    remedy = f"write {target} as the endpoint, where that is the S3 server" if target.startswith("https://") else ""
    shown = target or one_line(where.partition("?")[0], 80) or "nowhere"
    raise NotS3(f"{status}, a redirect to {shown}", remedy)


def _check_refusal(name: str, status: int, content: bytes) -> None:
    if _root(content) == b"Error" or (status in _WITHOUT_WORDS and not content.strip()):
        return
    # A HEAD has no words; who asks by it asks again by GET. A refusal without words may be an S3 server's, but not "not found".
    if not content.strip() and (name.startswith("Head") or status != 404):
        return
    remedy = "write https:// in the endpoint" if status == 400 and b"HTTPS" in content else ""
    raise NotS3(f"{status} with {_described(content)}", remedy, passing=status in _PASSING)


def _kind_of(headers: Mapping[str, str], content: bytes) -> str:
    """What an answer is whose content was not read."""
    if content:
        return _described(content)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/html":
        return "a web page"
    return f"{one_line(kind, 60)} and no version" if kind else "no version of an object"


def _described(content: bytes) -> str:
    text = content.strip()
    if not text:
        return "an empty answer"
    if text[:1] in (b"{", b"["):
        return f'JSON, "{one_line(text)}"'.replace('""', '"')
    if text.lower().startswith(b"<!doctype html") or b"<html" in text[:1000].lower():
        title = _TITLE.search(text)
        told = one_line(re.sub(rb"<[^>]*>", b" ", title[2]), 80) if title else ""
        return f'a web page, "{told}"' if told else "a web page"
    root = _root(content)
    if root is not None:
        return f"XML of another kind, <{one_line(root, 60)}>"
    return f'the text "{one_line(text)}"'


def _root(content: bytes) -> bytes | None:
    found = _ROOT.match(content)
    return found[1] if found else None
