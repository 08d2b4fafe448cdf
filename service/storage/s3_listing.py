"""Lists of a bucket's objects, page by page."""

from collections.abc import Iterator
from typing import Any

from service.errors import StoreError
from service.storage.s3_bucket import Bucket


def pages(bucket: Bucket, prefix: str, **options: str) -> Iterator[dict[str, Any]]:
    """The answers that list the objects below a prefix, one after the other."""
    token: dict[str, str] = {}
    while True:

        def page(token: dict[str, str] = token) -> Any:
            arguments = {"Bucket": bucket.location.bucket, "Prefix": bucket.prefix + prefix, **options, **token}
            answer = bucket.client.list_objects_v2(**arguments)
            # A KeyError here becomes the error of an answer that cannot be read.
            for item in answer.get("Contents", []):
                _ = item["Key"], item["Size"], item["LastModified"]
            return answer

        answer = bucket.call(page, prefix)
        yield answer
        if not answer.get("IsTruncated"):
            return
        following = answer.get("NextContinuationToken")
        if not following or token == {"ContinuationToken": following}:
            raise StoreError(
                f"The store {bucket.location.url} lists a part of {prefix!r} and does not say where the rest begins: use a server that knows "
                "ListObjectsV2."
            )
        token = {"ContinuationToken": following}
