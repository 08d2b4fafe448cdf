"""Fetches the original files of a dataset: time limits, a size limit, checksums, nothing half-written."""

import functools
import hashlib
import http.client
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.datasets.known import Known
from service.errors import BadData, InvalidInput
from service.time_limits import TooSlow, within

SILENCE_SECONDS = 60.0
"""Without a byte."""
WHOLE_SECONDS = 3600.0
"""For all files of a dataset, addresses and headers included, however steadily bytes drip (derived: 16 GiB at 5 MB/s)."""
MOST_BYTES = 16 * 1024**3
CHUNK = 1024**2


def fetch_known(name: str, known: Known, folder: Path, progress: Callable[[int], None]) -> Path:
    """Fetch a known dataset's files into `folder` and return what its format reads; raise InvalidInput when offline."""
    began = time.monotonic()
    for remote in known.files:
        remedy = f"give the files with `delayline data import {name} --from FOLDER`"
        digest = _fetch(remote.url, folder / remote.name, progress, remedy, remote.size, began)
        if digest != remote.sha256:
            raise BadData(
                f"{remote.url} has the sha256 checksum {digest}, but {remote.sha256} is the published one: fetch it from elsewhere "
                "and use --from."
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


def _fetch(
    url: str,
    target: Path,
    progress: Callable[[int], None],
    remedy: str,
    size: int | None = None,
    began: float | None = None,
) -> str:
    """Fetch a file, of `size` bytes where that is known; return its sha256. Raise InvalidInput, or BadData for other bytes than promised.

    `began`: when the time for all files began, by the monotonic clock; now if it is not given.
    """
    name, used = shown(url), 0.0 if began is None else time.monotonic() - began
    try:
        return within(max(0.0, WHOLE_SECONDS - used), functools.partial(_receive, url, target, progress, size), "download")
    except TooSlow as error:
        raise InvalidInput(f"{name} cannot be fetched (it has not come whole within {WHOLE_SECONDS:g} s): {remedy}.") from error
    except urllib.error.HTTPError as error:
        # It holds the connection.
        with error:
            raise InvalidInput(f"{name} answered {error.code} {error.reason}: {remedy}.") from error
    except (OSError, http.client.HTTPException) as error:
        # The text of the error has the wrong address.
        reason = type(error).__name__ if isinstance(error, http.client.InvalidURL) else getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            reason = f"nothing came for {SILENCE_SECONDS:g} s"
        raise InvalidInput(f"{name} cannot be fetched ({reason}): {remedy}.") from error


def _receive(url: str, target: Path, progress: Callable[[int], None], size: int | None, over: threading.Event) -> str:
    name, digest, most = shown(url), hashlib.sha256(), MOST_BYTES if size is None else size
    opener = urllib.request.build_opener(_SafeRedirects)
    with opener.open(url, timeout=SILENCE_SECONDS) as answer:
        promised = int(answer.headers.get("Content-Length") or 0)
        if promised > most or (size is not None and promised not in (0, size)):
            raise BadData(f"{name} promises {promised} bytes, {_than(size)}: fetch it yourself and use --from FOLDER.")
        received = 0
        with target.open("wb") as file:
            while not over.is_set() and (chunk := answer.read1(CHUNK)):
                received += len(chunk)
                if received > most:
                    raise BadData(
                        f"{name} sends {received} bytes or more, {_than(size)}: fetch it yourself and use --from FOLDER."
                    )
                digest.update(chunk)
                file.write(chunk)
                progress(len(chunk))
    promised = promised or size or 0
    if promised and received != promised:
        raise BadData(f"{name} ended after {received} of {promised} bytes: try again.")
    return digest.hexdigest()


def _than(size: int | None) -> str:
    return f"more than {MOST_BYTES} bytes" if size is None else f"but the published file has {size}"


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https, and from http to http; what was to come by https comes by nothing less."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme != "https" and (scheme, req.type) != ("http", "http"):
            fp.close()
            raise urllib.error.URLError(f"it redirects from {req.type} to {shown(newurl)}, which is not safe")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
