"""Where a store is, from what a user typed."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from service.errors import InvalidInput


@dataclass(frozen=True)
class LocalLocation:
    """A folder."""

    folder: Path


@dataclass(frozen=True)
class S3Location:
    """A bucket, a prefix without outer slashes (perhaps empty) and the endpoint, None for AWS."""

    bucket: str
    prefix: str
    endpoint: str | None

    @property
    def url(self) -> str:
        """As a user would type it."""
        query = f"?endpoint_override={self.endpoint}" if self.endpoint else ""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/") + query


def parse_location(text: str, endpoint: str | None) -> LocalLocation | S3Location:
    """Parse a folder, `file:///folder` or `s3://bucket/prefix[?endpoint_override=URL]`; raise InvalidInput.

    `endpoint` serves an S3 location that names none of its own.
    """
    if not text.strip() or "\0" in text:
        raise InvalidInput("The store is empty: give a folder, file:///folder or s3://bucket/prefix.")
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme == "":
        return LocalLocation(Path(text).expanduser().absolute())
    if scheme == "file":
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise InvalidInput(
                f"The store {text[:100]!r} is not valid: a file URL has three slashes, such as file:///data/store."
            )
        return LocalLocation(Path(unquote(parts.path)))
    if scheme == "s3":
        return _parse_s3(text, endpoint)
    raise InvalidInput(
        f"The store {text[:100]!r} has the unknown scheme {scheme!r}: give a folder, file:///folder or s3://bucket/prefix."
    )


def _parse_s3(text: str, endpoint: str | None) -> S3Location:
    parts = urlsplit(text)
    if "@" in parts.netloc:
        raise InvalidInput(
            "The store's URL holds credentials: leave them out and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if not parts.netloc:
        raise InvalidInput(f"The store {text[:100]!r} names no bucket: use s3://bucket/prefix.")
    query = parse_qs(parts.query)
    unknown = sorted(set(query) - {"endpoint_override"})
    if unknown:
        raise InvalidInput(f"The store {text[:100]!r} has the unknown option {unknown[0]!r}: only endpoint_override is known.")
    chosen = query.get("endpoint_override", [endpoint])[-1]
    return S3Location(parts.netloc, parts.path.strip("/"), check_endpoint(chosen) if chosen else None)


def check_endpoint(endpoint: str) -> str:
    """Return an S3 endpoint unchanged but for a last slash; raise InvalidInput for one without a scheme."""
    if not endpoint.startswith(("http://", "https://")) or not urlsplit(endpoint).hostname:
        shown = endpoint.split("@")[-1][:100]
        raise InvalidInput(
            f"The S3 endpoint {shown!r} has no scheme: write http:// or https:// before the host, such as http://{shown}."
        )
    return endpoint.rstrip("/")
