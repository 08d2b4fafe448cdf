"""Files of any size to a bucket and back: parts and ranges side by side, hashed on the way."""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

from botocore.exceptions import ConnectionError

from service.storage.base import Progress
from service.storage.s3_bucket import THREADS, Bucket

PART = 16 * 1024**2
"""Bytes of a part of a parallel transfer: the published size to fill a link with is 8 to 16 MiB."""
_SPENT: Any = None


def upload_parts(bucket: Bucket, source: Path, size: int, key: str, progress: Progress | None) -> str:
    """Send a file of `size` bytes in parts; return its sha256. What fails leaves no parts."""
    upload = bucket.call(lambda: bucket.client.create_multipart_upload(**bucket.at(key)), key)["UploadId"]
    try:
        with source.open("rb") as file:

            def send(number: int) -> dict[str, Any]:
                data = os.pread(file.fileno(), PART, number * PART)
                arguments = {**bucket.at(key), "UploadId": upload, "PartNumber": number + 1, "Body": data}
                answer = bucket.call(lambda: bucket.client.upload_part(**arguments), key)
                if progress is not None:
                    progress(len(data))
                return {"PartNumber": number + 1, "ETag": answer["ETag"]}

            sent = [bucket.pool.submit(send, number) for number in range(-(-size // PART))]
            # Hashed while the parts are on their way: the same pages are in memory anyway.
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            parts = {"Parts": [future.result() for future in sent]}
        bucket.call(
            lambda: bucket.client.complete_multipart_upload(**bucket.at(key), UploadId=upload, MultipartUpload=parts), key
        )
        return digest
    except BaseException:
        with contextlib.suppress(Exception):
            bucket.client.abort_multipart_upload(**bucket.at(key), UploadId=upload)
        raise


def download_ranges(bucket: Bucket, key: str, size: int, version: str, descriptor: int, progress: Progress | None) -> str:
    """Write the object of that version to an open file; return its sha256."""

    def fetch(start: int) -> bytes:
        wanted = min(PART, size - start)

        def get() -> bytes:
            # A range of another version would make a file that never was.
            answer = bucket.client.get_object(**bucket.at(key), Range=f"bytes={start}-{start + wanted - 1}", IfMatch=version)
            data = bytes(answer["Body"].read())
            if len(data) != wanted:
                raise ConnectionError(error=OSError("the answer was cut short"))
            return data

        data = bucket.call(get, key)
        os.pwrite(descriptor, data, start)
        if progress is not None:
            progress(len(data))
        return data

    digest = hashlib.sha256()
    starts = list(range(0, size, PART))
    ahead = [bucket.pool.submit(fetch, start) for start in starts[: 2 * THREADS]]
    for index in range(len(starts)):
        digest.update(ahead[index].result())
        following = index + 2 * THREADS
        if following < len(starts):
            ahead.append(bucket.pool.submit(fetch, starts[following]))
        ahead[index] = _SPENT
    return digest.hexdigest()
