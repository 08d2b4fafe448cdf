"""What an S3 server's refusals mean: its codes as errors of Delayline, with the remedy."""

from botocore.exceptions import ClientError, SSLError

from service.errors import Conflict, CredentialsRefused, NotFound, StoreError, StoreUnreachable
from service.storage.location import S3Location

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
_WRONG_KEYS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "ExpiredTokenException",
    "AuthorizationHeaderMalformed",
}
_FULL = {"XMinioStorageFull", "QuotaExceeded", "InsufficientStorage", "507"}


class RangeBeyondEnd(NotFound):
    """The range begins behind the object's end."""


def worth_another_try(error: ClientError) -> bool:
    """Whether the server may answer otherwise in a moment."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return code in _RETRIED_CODES or status in (429, 500, 502, 503, 504) or code == "ConditionalRequestConflict"


def refuses_credentials(error: ClientError) -> bool:
    """Whether it is the credentials that the server does not accept."""
    return str(error.response.get("Error", {}).get("Code", "")) in _WRONG_KEYS


def is_expired(error: ClientError) -> bool:
    """Whether the credentials were good until a moment ago."""
    return str(error.response.get("Error", {}).get("Code", "")) in ("ExpiredToken", "ExpiredTokenException")


def translate(error: ClientError, key: str, location: S3Location, patience: float) -> StoreError:
    """The error of Delayline that says what the server refused, and how to mend it."""
    answer = error.response
    code = str(answer.get("Error", {}).get("Code", ""))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    bucket = location.bucket
    if code in _CONFLICTS or status == 412:
        return Conflict(f"The object {key!r} in {location.url} exists or was changed by another process.")
    if code == "NoSuchBucket":
        return StoreError(
            f"There is no bucket {bucket!r} at {location.endpoint or 'AWS'}: create it, or correct the store's URL."
        )
    if code == "InvalidRange" or status == 416:
        return RangeBeyondEnd()
    if code in _MISSING or status == 404:
        return NotFound(f"There is no object {key!r} in {location.url}.")
    if code in ("PermanentRedirect", "IllegalLocationConstraintException") or status == 301:
        return StoreError(f"The bucket {bucket!r} is in another region: set AWS_REGION to it (the server said {code}).")
    if code == "RequestTimeTooSkewed":
        return StoreError(f"The store {location.url} refuses requests of another time: set this machine's clock right, by NTP.")
    if code in _WRONG_KEYS:
        return CredentialsRefused(
            f"The store {location.url} does not accept these credentials ({code}): correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if code == "EntityTooLarge" or status == 413:
        return StoreError(
            f"The object {key!r} is too large for the store {location.url} ({code or status}): raise the server's limit for one "
            "request, or make the object smaller."
        )
    if code in _FULL or status == 507:
        return StoreError(f"The store {location.url} is full ({code}): make room there, or choose another one with --store.")
    if status in (401, 403):
        return StoreError(
            f"The store {location.url} refuses access to {key!r} ({code or status}): give these credentials the right to read, write, list and delete there."
        )
    if status in (405, 501):
        return StoreError(
            f"What answers for {location.url} does not do what a store needs ({code or status}): see whether the endpoint is that of an S3 server."
        )
    if status >= 500 or code in _RETRIED_CODES:
        return StoreUnreachable(f"The store {location.url} failed for {patience:g} s ({code or status}): see the server's log.")
    return StoreError(f"The store {location.url} refused a request for {key!r} ({code or status}).")


def tls_remedy(error: SSLError) -> str:
    """What to do about a failure of TLS that will not pass by itself; empty for one that may."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not trusted here; set AWS_CA_BUNDLE to the file of the authority that signed it"
    if any(words in text for words in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "record layer failure", "HTTP_REQUEST")):
        return "the server speaks plain HTTP; write http:// instead of https:// in the endpoint"
    return ""
