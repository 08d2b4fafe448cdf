"""Plain HTTP to a Ray cluster's dashboard, with the cluster's token.

Ray's own client takes 1.3 s to import where urllib takes 0.03 s (measured on 2 cores).
"""

import http.client
import urllib.error
import urllib.request
from typing import Any

from pydantic import SecretStr


class DashboardHttp:
    """Requests to the dashboard at `url`, http or https, without a last slash."""

    def __init__(self, url: str, token: SecretStr | None) -> None:
        self._url = url
        self._token = token
        self._opener = urllib.request.build_opener(_NoRedirects)

    def request(
        self, method: str, path: str, data: bytes | None = None, *, seconds: float, most: int | None = None
    ) -> tuple[int, bytes]:
        """The status and the body of an answer, of a good one at most `most` bytes, refusals too; raise OSError when none came in `seconds`."""
        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        request = urllib.request.Request(f"{self._url}{path}", data, headers, method=method)  # noqa: S310 - callers allow http and https alone
        try:
            try:
                with self._opener.open(request, timeout=seconds) as answer:
                    return int(answer.status), answer.read(most)
            except urllib.error.HTTPError as refusal:
                return refusal.code, refusal.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error) or type(error).__name__) from error


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token to another host."""

    def redirect_request(self, *arguments: Any) -> None:
        return
