"""What an S3 server's refusals mean: its codes as errors of Delayline, with the remedy."""

import re

from botocore.exceptions import ClientError

from service.errors import Conflict, CredentialsRefused, NotFound, StoreError, StoreUnreachable
from service.storage.location import S3Location
from service.storage.s3_answers import NotS3, one_line

SENTENCE = 160
"""Letters of a server's own sentence that are shown."""
WHEN_REQUIRED = "AWS_REQUEST_CHECKSUM_CALCULATION=when_required"

_RETRIED_CODES = {
    "InternalError",
    "ServiceUnavailable",
    "SlowDown",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "XMinioServerNotInitialized",
}
_CONFLICTS = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_MISSING = {"NoSuchKey", "404", "NotFound"}
_BOTH = "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_NEW = "they have expired: fetch new ones, with their AWS_SESSION_TOKEN"
_WRONG_KEYS = {
    "InvalidAccessKeyId": f"{_BOTH}; keys for a time, such as ASIA…, need their AWS_SESSION_TOKEN too",
    "SignatureDoesNotMatch": f"{_BOTH}, and see that nothing on the way changes requests",
    "InvalidToken": "set the AWS_SESSION_TOKEN that came with AWS_ACCESS_KEY_ID, and none where the keys are not for a time",
    "InvalidTokenId": "set the AWS_SESSION_TOKEN that came with AWS_ACCESS_KEY_ID, and none where the keys are not for a time",
    "ExpiredToken": _NEW,
    "ExpiredTokenException": _NEW,
    "TokenRefreshRequired": _NEW,
    "AuthorizationHeaderMalformed": _BOTH,
}
_WRONG_REGION = {
    "PermanentRedirect",
    "TemporaryRedirect",
    "Redirect",
    "IllegalLocationConstraintException",
    "IncorrectEndpoint",
}
_DAMAGED = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"}
"""What came is not what was sent: no fault of the headers."""
_CHECKSUM_WORDS = (
    "checksum",
    "crc32",
    "aws-chunked",
    "trailer",
    "x-amz-sdk-",
    "decoded-content-length",
    "streaming-unsigned",
    "content-md5",
)
_WRITES = ("PutObject", "UploadPart", "CreateMultipartUpload", "CompleteMultipartUpload", "DeleteObjects")
_RIGHTS = {
    "ListObjects": "list there (s3:ListBucket)",
    "ListMultipart": "list uploads there (s3:ListBucketMultipartUploads)",
    "GetObject": "read and list there (s3:GetObject, s3:ListBucket)",
    "HeadObject": "read and list there (s3:GetObject, s3:ListBucket)",
    "Delete": "delete there (s3:DeleteObject)",
    "AbortMultipart": "abort uploads there (s3:AbortMultipartUpload)",
    "PutObject": "write there (s3:PutObject)",
    "UploadPart": "write there (s3:PutObject)",
    "MultipartUpload": "write there (s3:PutObject)",
}
_FULL = {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage", "507"}


class RangeBeyondEnd(NotFound):
    """The range begins after the object's end."""


def worth_another_try(error: ClientError) -> bool:
    """Whether the server may answer otherwise in a moment."""
    code, status = _code(error), _status(error)
    return code in _RETRIED_CODES or status in (429, 500, 502, 503, 504) or code == "ConditionalRequestConflict"


def refuses_credentials(error: ClientError) -> bool:
    """Whether it is the credentials that the server does not accept."""
    return _code(error) in _WRONG_KEYS and not names_region(error)


def is_silent(error: ClientError) -> bool:
    """Whether an answer was a status alone, as every one to HEAD is."""
    return _code(error).isdigit()


def has_no_words(error: StoreError) -> bool:
    """Whether a server refused by a status alone."""
    cause = error.__cause__
    silent = isinstance(cause, NotS3) or (isinstance(cause, ClientError) and is_silent(cause))
    return silent and not isinstance(error, StoreUnreachable)


def names_region(error: ClientError) -> bool:
    """Whether the bucket's region is what the request lacks."""
    return _code(error) == "AuthorizationHeaderMalformed" and bool(_region(error))


def is_expired(error: ClientError) -> bool:
    """Whether the credentials were good until a moment ago."""
    return _code(error) in ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired")


def said(error: ClientError) -> str:
    """The code of a refusal, and the server's own sentence."""
    answer = error.response.get("Error", {})
    code = one_line(str(answer.get("Code", "")), 60)
    told = one_line(str(answer.get("Message", "") or ""), SENTENCE).rstrip(".")
    # Where an answer has no words, botocore puts the status's there.
    return f'{code}: "{told}"' if told and code and not code.isdigit() else code or str(_status(error))


def translate(error: ClientError, key: str, location: S3Location, patience: float) -> StoreError:
    """The error of Delayline that says what the server refused, and how to mend it."""
    for look in (_of_object, _of_request, _of_server):
        if (found := look(error, key, location)) is not None:
            return found
    code, status, url = _code(error), _status(error), location.url
    if status >= 500 or code in _RETRIED_CODES:
        return StoreUnreachable(f"The store {url} failed for {patience:g} s ({said(error)}): see the server's log.")
    return StoreError(f"The store {url} refused a request for {key!r} ({said(error)}): see what the server's documentation says.")


def _of_object(error: ClientError, key: str, location: S3Location) -> StoreError | None:
    """The object or its bucket: it is missing, or another one is there."""
    code, status, url = _code(error), _status(error), location.url
    if code in _CONFLICTS or status == 412:
        return Conflict(f"The object {key!r} in {url} exists or was changed by another process.")
    if code == "NoSuchBucket":
        return StoreError(
            f"There is no bucket {location.bucket!r} at {location.endpoint or 'AWS'}: create it, or correct the store's URL."
        )
    if code == "InvalidRange" or status == 416:
        return RangeBeyondEnd()
    if code == "NoSuchUpload" or code in _MISSING or status == 404:
        return NotFound(f"There is no object {key!r} in {url}.")
    return None


def _of_request(error: ClientError, key: str, location: S3Location) -> StoreError | None:
    """How it was asked: region, clock, credentials, headers, size."""
    code, status, url = _code(error), _status(error), location.url
    if code in _WRONG_REGION or names_region(error) or status in (301, 302, 307, 308):
        region = _region(error)
        setting = f"set AWS_REGION={region}" if region else "set AWS_REGION to its region"
        elsewhere = one_line(str(error.response.get("Error", {}).get("Endpoint", "") or ""), 100)
        setting += f", and the endpoint to that of {elsewhere}" if elsewhere and location.endpoint else ""
        return StoreError(f"The bucket {location.bucket!r} is in another region: {setting} ({said(error)}).")
    if code == "RequestTimeTooSkewed":
        return StoreError(
            f"The store {url} refuses requests of another time: set this machine's clock right, by NTP ({said(error)})."
        )
    if code in _WRONG_KEYS:
        return CredentialsRefused(f"The store {url} does not accept these credentials ({said(error)}): {_WRONG_KEYS[code]}.")
    if remedy := _of_headers(error, code, status):
        return StoreError(f"The store {url} refused a request for {key!r} ({said(error)}): {remedy}.")
    if code == "EntityTooLarge" or status == 413:
        return StoreError(
            f"The object {key!r} is too large for the store {url} ({said(error)}): raise the server's limit for one "
            "request, or make the object smaller."
        )
    return None


def _of_server(error: ClientError, key: str, location: S3Location) -> StoreError | None:
    """What the server cannot do, or these credentials may not."""
    code, status, url = _code(error), _status(error), location.url
    if code in _FULL or status == 507:
        return StoreError(f"The store {url} is full ({said(error)}): make room there, or choose another one with --store.")
    if code.startswith("KMS.") or re.search(r"\bkms\b", said(error), re.IGNORECASE):
        return StoreError(
            f"The store {url} cannot use the key that encrypts the bucket ({said(error)}): see that the key is enabled, and give "
            "these credentials kms:GenerateDataKey and kms:Decrypt for it."
        )
    if "API port" in said(error):
        return StoreError(
            f"What answers for {url} is MinIO's console ({said(error)}): write the port of its API, 9000 by itself, in the endpoint."
        )
    if status in (401, 403):
        return StoreError(f"The store {url} refuses access to {key!r} ({said(error)}): {_rights(error)}.")
    if status in (405, 501):
        return StoreError(
            f"What answers for {url} does not do what a store needs ({said(error)}): see whether the endpoint is that of an S3 server."
        )
    return None


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _region(error: ClientError) -> str:
    """The region that a server names, as a field, a header or within its sentence."""
    answer = error.response.get("Error", {})
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    told = str(answer.get("Region") or headers.get("x-amz-bucket-region") or "")
    if not told:
        expected = re.search(r"expecting '([a-z0-9-]+)'", str(answer.get("Message", "")))
        host = re.search(r"\bs3[.-]([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws", str(answer.get("Endpoint", "")))
        told = expected[1] if expected else host[1] if host else ""
    return told if re.fullmatch(r"[A-Za-z0-9-]{1,40}", told) else ""


def refuses_checksums(error: ClientError) -> bool:
    """Whether a server seems not to know the headers or the framing by which newer clients send checksums."""
    told = str(error.response.get("Error", {}).get("Message", "")).lower()
    if _code(error) in _DAMAGED:
        return False
    return any(word in told for word in _CHECKSUM_WORDS) or _code(error) == "MissingContentMD5"


def _of_headers(error: ClientError, code: str, status: int) -> str:
    """What to do where the server refuses a header; empty where that is not what it refuses."""
    if refuses_checksums(error):
        return f"the server does not know checksums in headers; set {WHEN_REQUIRED}"
    if code == "NotImplemented" and error.operation_name in _WRITES and "header" in said(error).lower():
        return (
            f"where it does not know checksums in headers, set {WHEN_REQUIRED}; where it does not know conditional writes, "
            "use a server that does, such as AWS, MinIO or SeaweedFS"
        )
    return ""


def _rights(error: ClientError) -> str:
    """Which right is lacking, by what was asked for."""
    name = str(getattr(error, "operation_name", ""))
    right = next((rights for part, rights in _RIGHTS.items() if part in name), "")
    return f"give these credentials the right to {right or 'read, write, list and delete there'}"
