"""Many objects of a bucket, deleted at once, or one by one where a server cannot do so."""

import contextlib
from typing import Any

from botocore.exceptions import ClientError

from service.errors import NotFound, StoreError
from service.storage.s3_answers import one_line
from service.storage.s3_bucket import Bucket
from service.storage.s3_errors import refuses_checksums

BATCH = 1000
"""What S3 takes in one request."""


def delete_keys(bucket: Bucket, keys: list[str]) -> int:
    """Delete objects by their keys below the store's prefix; return how many. One that does not exist any more is no error."""
    whole = [bucket.prefix + key for key in keys]
    for first in range(0, len(whole), BATCH):
        batch = whole[first : first + BATCH]
        try:
            _delete_batch(bucket, batch)
        except StoreError as error:
            if not _cannot_delete_many(error):
                raise
            for _ in bucket.pool.map(lambda key: _delete_one(bucket, key), batch):
                pass
    return len(whole)


def _delete_batch(bucket: Bucket, keys: list[str]) -> None:
    batch = {"Objects": [{"Key": key} for key in keys], "Quiet": True}

    def remove() -> Any:
        return bucket.client.delete_objects(Bucket=bucket.location.bucket, Delete=batch)

    errors = bucket.call(remove, keys[0]).get("Errors", [])
    if errors:
        told = one_line(f"{errors[0].get('Code')}: {errors[0].get('Message')}").rstrip(".")
        raise StoreError(f"The store {bucket.location.url} did not delete {errors[0].get('Key')!r} ({told}).")


def _delete_one(bucket: Bucket, key: str) -> None:
    with contextlib.suppress(NotFound):
        bucket.call(lambda: bucket.client.delete_object(Bucket=bucket.location.bucket, Key=key), key)


def _cannot_delete_many(error: StoreError) -> bool:
    """Whether the server lacks this request (Google's) or its checksum (servers that want Content-MD5)."""
    cause = error.__cause__
    if not isinstance(cause, ClientError):
        return False
    status = int(cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return status in (405, 501) or refuses_checksums(cause)
