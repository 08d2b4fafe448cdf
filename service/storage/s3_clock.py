"""The time by an S3 server's own clock, and the ages of objects by it."""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from botocore import UNSIGNED
from botocore.exceptions import ClientError

from service.errors import StoreError
from service.storage.s3_bucket import Bucket


def age_of(headers: Mapping[str, str], url: str) -> float:
    """An object's age by one answer's own times, both of which are cut to whole seconds: the true age is at most a second less."""
    try:
        answered, written = (parsedate_to_datetime(headers[name]) for name in ("date", "last-modified"))
        # Of a header that came twice the time is of no zone, and no difference to another.
        return max(0.0, (answered - written).total_seconds() - 1.0)
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(
            f"The store {url} does not say its time: a proxy between this machine and the S3 server must not remove the "
            "headers Date and Last-Modified from its answers."
        ) from error


def server_time(bucket: Bucket) -> float | None:
    """As the store's `server_time`; an answer that refuses has the time in its headers as well."""
    client = bucket.make_client(signature_version=UNSIGNED)

    def look() -> dict[str, Any]:
        try:
            answer = client.list_objects_v2(Bucket=bucket.location.bucket, MaxKeys=1)
        except ClientError as error:
            answer = error.response
        return dict(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}))

    try:
        return parsedate_to_datetime(bucket.call(look, "")["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return None
