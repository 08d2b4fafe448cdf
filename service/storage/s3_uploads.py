"""Uploads in parts that nobody finished: a server keeps their parts, which no listing of objects shows, until they are aborted."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from service.errors import NotFound
from service.storage.base import Unfinished
from service.storage.s3_bucket import Bucket


def unfinished_uploads(bucket: Bucket, keys: Iterable[str]) -> list[Unfinished]:
    """Those below the store's prefix, with their ages by the server's clock.

    MinIO lists by a whole key alone, or without a prefix those that it remembers since it was started: there, both are asked
    for. What neither shows, MinIO deletes after a day (its setting `stale_uploads_expiry`).
    """
    found, server = _listed(bucket, bucket.prefix)
    if "minio" in server.lower():
        found |= _listed(bucket, "")[0]
        names = [bucket.at(key)["Key"] for key in keys]
        for listed, _ in bucket.pool.map(lambda name: _listed(bucket, name), names):
            found |= listed
    mine = [(key, upload, age) for (key, upload), age in found.items() if key.startswith(bucket.prefix)]
    sized = bucket.pool.map(lambda each: _bytes(bucket, each[0], each[1]), mine)
    return sorted(
        (
            Unfinished(key[len(bucket.prefix) :], upload, age, size)
            for (key, upload, age), size in zip(mine, sized, strict=True)
            if size is not None
        ),
        key=lambda each: (each.key, each.upload),
    )


def abort_upload(bucket: Bucket, upload: Unfinished) -> None:
    """Have the server delete an upload's parts; one that does not exist any more is no error."""

    def abort() -> Any:
        # Not by `bucket.at`: another program's key below the prefix may be one that Delayline would not write.
        name = bucket.prefix + upload.key
        return bucket.client.abort_multipart_upload(Bucket=bucket.location.bucket, Key=name, UploadId=upload.upload)

    with contextlib.suppress(NotFound):
        bucket.call(abort, upload.key)


def _listed(bucket: Bucket, prefix: str) -> tuple[dict[tuple[str, str], float], str]:
    """The ages of uploads by key and id, and what kind of server says so."""
    found, server = {}, ""
    for page in _pages(
        lambda marks: bucket.client.list_multipart_uploads(Bucket=bucket.location.bucket, Prefix=prefix, **marks), bucket
    ):
        headers = page["ResponseMetadata"]["HTTPHeaders"]
        server = str(headers.get("server", ""))
        now = parsedate_to_datetime(headers["date"]) if "date" in headers else datetime.now(UTC)
        for item in page.get("Uploads", []):
            found[item["Key"], item["UploadId"]] = (now - item["Initiated"]).total_seconds()
    return found, server


def _pages(ask: Callable[[dict[str, str]], Any], bucket: Bucket) -> Iterator[Any]:
    marks: dict[str, str] = {}
    while True:
        page = bucket.call(lambda marks=marks: ask(marks), "")  # type: ignore[misc]
        yield page
        following = {"KeyMarker": page.get("NextKeyMarker"), "UploadIdMarker": page.get("NextUploadIdMarker")}
        if not page.get("IsTruncated") or not following["KeyMarker"]:
            return
        marks = {name: value for name, value in following.items() if value}


def _bytes(bucket: Bucket, key: str, upload: str) -> int | None:
    """How large an upload's parts are so far; None where it was finished or dropped meanwhile."""
    arguments = {"Bucket": bucket.location.bucket, "Key": key, "UploadId": upload}
    total, marker = 0, 0
    while True:
        try:
            page = bucket.call(lambda marker=marker: bucket.client.list_parts(**arguments, PartNumberMarker=marker), key)  # type: ignore[misc]
        except NotFound:
            return None
        total += sum(int(part["Size"]) for part in page.get("Parts", []))
        if not page.get("IsTruncated"):
            return total
        marker = int(page["NextPartNumberMarker"])
