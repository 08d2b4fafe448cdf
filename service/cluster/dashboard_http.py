"""Plain HTTP to a Ray cluster's dashboard, with the cluster's token where nobody on the way can read it.

Ray's own client takes 1.3 s to import where urllib takes 0.03 s (measured on 2 cores).
"""

import http.client
import re
import threading
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from service.cluster.nodes import is_loopback
from service.errors import InvalidInput
from service.settings import Settings
from service.time_limits import within

_SERVICE = re.compile(r"([a-z0-9-]+\.)+svc(\.cluster\.local)?", re.IGNORECASE)
"""A Kubernetes service's names; the network of a cluster is its owner's."""


MOST_BYTES = 512 * 1024**2
MOST_REFUSAL = 1024**2
"""Of an answer that is read; what is beyond is no dashboard's (assumed)."""
PIECES = 4
"""So many times the limit for a piece is that for a whole answer (assumed)."""
SLOWEST = 50_000
"""Bytes a second of what is sent (assumed: ten megabytes of code over a slow line take three minutes)."""


class DashboardHttp:
    """Requests to the dashboard at `url`, http or https, without a last slash; raise InvalidInput as `check_token_is_safe`.

    `settings` say whether the token may go anywhere; without them it goes where it is safe alone.
    """

    def __init__(self, url: str, token: SecretStr | None, settings: Settings | None = None) -> None:
        if token is not None:
            check_token_is_safe(url, settings)
        self._url = url
        self._token = token
        handlers: list[Any] = [_NoRedirects]
        if token is not None and url.lower().startswith("http:"):
            # A proxy would read it.
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def request(
        self, method: str, path: str, data: bytes | None = None, *, seconds: float, most: int | None = None
    ) -> tuple[int, bytes]:
        """The status and the body of an answer, at most `most` bytes of it, refusals too; raise OSError when none came.

        `seconds` are for each piece that comes; a whole answer has four times as many, and more for much that is sent.
        """
        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        request = urllib.request.Request(f"{self._url}{path}", data, headers, method=method)  # noqa: S310 - callers allow http and https alone

        def ask(_: threading.Event) -> tuple[int, bytes]:
            try:
                with self._opener.open(request, timeout=seconds) as answer:
                    return int(answer.status), answer.read(most or MOST_BYTES)
            except urllib.error.HTTPError as refusal:
                return refusal.code, refusal.read(MOST_REFUSAL)

        try:
            return within(PIECES * seconds + len(data or b"") / SLOWEST, ask, "answer")
        except http.client.HTTPException as error:
            raise ConnectionError(str(error) or type(error).__name__) from error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token to another host."""

    def redirect_request(self, *arguments: Any) -> None:
        return


def check_token_is_safe(url: str, settings: Settings | None = None) -> None:
    """Raise InvalidInput for an address to which a token would go in the clear.

    It goes by https, to this machine, from a pod to a service of its Kubernetes cluster, or where `insecure_token` allows it.
    """
    host = (urlsplit(url).hostname or "").removesuffix(".")
    if not url.lower().startswith("http:") or is_loopback(host):
        return
    if settings is not None and (settings.insecure_token or (settings.in_kubernetes and _SERVICE.fullmatch(host))):
        return
    raise InvalidInput(
        f"The token of the Ray cluster would go to {host or url[:100]!r} by http, where others can read it: give https://, or "
        f"`kubectl port-forward` and http://localhost:8265, or --insecure-token if you trust the network (RAY_AUTH_MODE=disabled sends none)."
    )
