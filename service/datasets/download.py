"""Fetches the original files of a dataset: time limits, a size limit, checksums, nothing half-written."""

import hashlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from service.datasets.known import Known
from service.errors import BadData, InvalidInput

SILENCE_SECONDS = 30.0
MOST_BYTES = 16 * 1024**3
CHUNK = 1024**2


def fetch_known(name: str, known: Known, folder: Path, progress: Callable[[int], None]) -> Path:
    """Fetch a known dataset's files into `folder` and return what its format reads; raise InvalidInput when offline."""
    for remote in known.files:
        digest = _fetch(
            remote.url, folder / remote.name, progress, f"give the files with `delayline data import {name} --from FOLDER`"
        )
        if digest != remote.md5:
            raise BadData(
                f"{remote.url} has the checksum {digest}, but {remote.md5} is the published one: fetch it from elsewhere and use --from."
            )
    return folder if len(known.files) > 1 else folder / known.files[0].name


def fetch_url(url: str, folder: Path, progress: Callable[[int], None]) -> Path:
    """Fetch one file (http, https or file URL); return its path."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "file":
        return Path(urllib.parse.unquote(parts.path))
    if parts.scheme not in ("http", "https"):
        raise InvalidInput(f"--from {shown(url)!r} is not valid: give a folder, a file, or an http:// or https:// address.")
    name = Path(urllib.parse.unquote(parts.path)).name or "download"
    if name in (".", ".."):
        raise InvalidInput(f"--from {shown(url)!r} names no file.")
    _fetch(url, folder / name, progress, "see whether the address is right and reachable")
    return folder / name


def shown(url: str) -> str:
    """An address without what may be secret: the user's name and password, and the query, where signed addresses hold their key."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urllib.parse.urlunsplit((parts.scheme, host, parts.path, "", ""))[:200]


def _fetch(url: str, target: Path, progress: Callable[[int], None], remedy: str) -> str:
    name = shown(url)
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with urllib.request.urlopen(url, timeout=SILENCE_SECONDS) as answer, target.open("wb") as file:  # noqa: S310  # checked above
            promised = int(answer.headers.get("Content-Length") or 0)
            if promised > MOST_BYTES:
                raise BadData(
                    f"{name} promises {promised} bytes, more than {MOST_BYTES}: fetch it yourself and use --from FOLDER."
                )
            received = 0
            while chunk := answer.read(CHUNK):
                received += len(chunk)
                if received > MOST_BYTES:
                    raise BadData(f"{name} sends more than {MOST_BYTES} bytes: fetch it yourself and use --from FOLDER.")
                digest.update(chunk)
                file.write(chunk)
                progress(len(chunk))
    except urllib.error.HTTPError as error:
        raise InvalidInput(f"{name} answered {error.code} {error.reason}: {remedy}.") from error
    except (OSError, http.client.HTTPException) as error:
        # A wrong address stands in the text of its error.
        reason = type(error).__name__ if isinstance(error, http.client.InvalidURL) else getattr(error, "reason", error)
        raise InvalidInput(f"{name} cannot be fetched ({reason}): {remedy}.") from error
    if promised and received != promised:
        raise BadData(f"{name} ended after {received} of {promised} bytes: try again.")
    return digest.hexdigest()
