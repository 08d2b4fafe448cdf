"""Where a store is, from what a user typed."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from service.errors import InvalidInput

_BUCKET = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


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

    `endpoint` is used for an S3 location that names none.
    """
    if not text.strip() or "\0" in text:
        raise InvalidInput("The store is empty: give a folder, file:///folder or s3://bucket/prefix.")
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme == "":
        if text.lower().startswith(("s3:", "file:")):
            raise InvalidInput(f"The store {text[:100]!r} has too few slashes: use s3://bucket/prefix or file:///folder.")
        return LocalLocation(_absolute(text))
    parts = _split(text)
    if scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise InvalidInput(
                f"The store {text[:100]!r} is not valid: a file URL has three slashes, such as file:///data/store."
            )
        return LocalLocation(Path(unquote(parts.path)))
    if scheme == "s3":
        return _parse_s3(text, parts, endpoint)
    raise InvalidInput(
        f"The store {text[:100]!r} has the unknown scheme {scheme!r}: give a folder, file:///folder or s3://bucket/prefix."
    )


def _absolute(text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise InvalidInput(f"The store {text[:100]!r} is in the home of a user who does not exist: correct it.") from error


def _split(text: str) -> SplitResult:
    """The parts of a URL; its text is safe to show once this has returned."""
    # A secret may hold a slash or a question mark, and would then lie outside what is parsed as the host.
    if not text.lower().startswith("file:") and re.search(r"://[^@]*:[^@]*@|://[^/?#]*@", text):
        raise InvalidInput(
            "The store's URL or endpoint holds credentials: remove them and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    try:
        parts = urlsplit(text)
        _ = parts.port, parts.hostname
        return parts
    except ValueError:
        # Also for a host that is no host and a bucket of a strange name: the caller looks at those itself.
        return SplitResult("", "", "", "", "")


def _parse_s3(text: str, parts: SplitResult, endpoint: str | None) -> S3Location:
    if text.partition("://")[2][:1] in ("", "/", "?"):
        raise InvalidInput(f"The store {text[:100]!r} names no bucket: use s3://bucket/prefix.")
    if not _BUCKET.fullmatch(parts.netloc):
        raise InvalidInput(
            f"The store {text[:100]!r} has no valid bucket name: it has 3 to 63 lower-case letters, digits, hyphens and dots."
        )
    prefix = parts.path.strip("/")
    if parts.fragment or (prefix and any(part in ("", ".", "..") for part in prefix.split("/"))):
        raise InvalidInput(f"The store {text[:100]!r} has no valid prefix: use names joined by single slashes, and no '#'.")
    query = parse_qs(parts.query, keep_blank_values=True)
    if set(query) - {"endpoint_override"} or query.get("endpoint_override") == [""]:
        raise InvalidInput(f"The options of the store {text[:100]!r} are not valid: only endpoint_override=URL is known.")
    chosen = query.get("endpoint_override", [endpoint])[-1]
    return S3Location(parts.netloc, prefix, check_endpoint(chosen) if chosen else None)


def check_endpoint(endpoint: str) -> str:
    """Return an S3 endpoint unchanged but for a last slash; raise InvalidInput for one that is no http or https address."""
    if not endpoint.startswith(("http://", "https://")):
        shown = endpoint.rpartition("@")[2][:100]
        host = shown.rpartition("://")[2].lstrip("/") or "host:9000"
        raise InvalidInput(
            f"The S3 endpoint {shown!r} has no scheme that is known: write http:// or https:// before the host, such as http://{host}."
        )
    if not _split(endpoint).hostname:
        raise InvalidInput(f"The S3 endpoint {endpoint[:100]!r} is no address: write http://host:port or https://host.")
    return endpoint.rstrip("/")
