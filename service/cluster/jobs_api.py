"""The HTTP API of a Ray cluster's dashboard: its nodes, jobs and packages."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from service.cluster.dashboard_http import DashboardHttp
from service.errors import ClusterUnreachable, InfrastructureFailure, InvalidInput
from service.settings import Settings

ANSWER_SECONDS = 4.0
"""For one answer (assumed: a dashboard on a busy machine takes one second)."""
WORK_SECONDS = 30.0
"""For an answer that waits for work of the cluster, such as a submission (assumed)."""
ONLY_LOOKS = b"use read only node provider"
"""What Ray's second monitor writes near the begin of its log when it was given no configuration of nodes to add (seen of Ray 2.60)."""
LOG_BYTES = 64 * 1024
"""Of that log so much of the begin is read (seen: within the first 2 KiB)."""

Document = dict[str, Any]


class JobsApi:
    """Speaks with the dashboard at `url`.

    Every method raises ClusterUnreachable when no answer came in time, InvalidInput when the cluster refuses the token or
    is none, and InfrastructureFailure when it fails.
    """

    def __init__(self, url: str, token: SecretStr | None, settings: Settings | None = None) -> None:
        """`settings` say where the token may go; raise InvalidInput where it may not."""
        self.url = check_url(url)
        self._token = token
        self._http = DashboardHttp(self.url, token, settings)

    def version(self) -> str:
        """Ray's version on the cluster."""
        return str(self._document("GET", "/api/version").get("ray_version"))

    def nodes(self) -> list[Document]:
        """The living nodes: `node_ip`, `resources_total` and more."""
        answer = self._document("GET", "/api/v0/nodes?detail=1&limit=10000")
        try:
            return [node for node in answer["data"]["result"]["result"] if node["state"] == "ALIVE"]
        except (KeyError, TypeError) as error:
            raise InfrastructureFailure(f"The cluster {self.url} lists its nodes in an unknown form: {error}.") from error

    def has_fixed_size(self) -> bool:
        """Whether the cluster says that nobody adds nodes to it; False where it does not say."""
        data = self._document("GET", "/api/cluster_status").get("data") or {}
        report = (data.get("clusterStatus") or {}).get("autoscalerReport") or {}
        kinds: Mapping[str, str] = report.get("nodeTypeMapping") or {}
        # A monitor that only looks makes up a kind of node for each node.
        return all(kind == f"node_{node}" for node, kind in kinds.items()) if kinds else self._only_looks()

    def _only_looks(self) -> bool:
        """Whether Ray's own monitor on the head, of the version that reports nothing there, only looks at the nodes.

        With an autoscaler KubeRay starts none beside it, and `ray up` starts one with its configuration.
        """
        head = next((str(node["node_id"]) for node in self.nodes() if node.get("is_head_node")), None)
        path = f"/api/v0/logs/file?node_id={quote(head or '')}&filename=monitor.log&lines=-1"
        with contextlib.suppress(ClusterUnreachable):
            return head is not None and ONLY_LOOKS in self._request("GET", path, most=LOG_BYTES)[1]
        return False

    def jobs(self) -> list[Document]:
        """All jobs that the cluster remembers: `submission_id`, `status`, `driver_exit_code` and more."""
        status, body = self._request("GET", "/api/jobs/")
        found = self._parsed(status, body)
        return found if isinstance(found, list) else []

    def job(self, submission_id: str) -> Document | None:
        """One job, or None for an unknown one."""
        status, body = self._request("GET", f"/api/jobs/{quote(submission_id)}")
        return None if status == 404 else dict(self._parsed(status, body))

    def submit(self, document: Document) -> bool:
        """Start a job; return False when its `submission_id` is taken."""
        status, body = self._request("POST", "/api/jobs/", json.dumps(document).encode(), WORK_SECONDS)
        if status in (400, 500) and self.job(document["submission_id"]) is not None:
            return False
        self._parsed(status, body)
        return True

    def stop(self, submission_id: str) -> None:
        """Ask a job to stop; one that has ended is left alone."""
        status, body = self._request("POST", f"/api/jobs/{quote(submission_id)}/stop", b"", WORK_SECONDS)
        if status != 404:
            self._parsed(status, body)

    def logs(self, submission_id: str) -> str:
        """What the job's process printed."""
        return str(self._document("GET", f"/api/jobs/{quote(submission_id)}/logs").get("logs", ""))

    def _document(self, method: str, path: str) -> Document:
        found = self._parsed(*self._request(method, path))
        return found if isinstance(found, dict) else {}

    def _parsed(self, status: int, body: bytes) -> Any:
        self._check(status, body)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"What answers at {self.url} is no Ray dashboard: give http(s)://HOST:8265.") from error

    def _check(self, status: int, body: bytes) -> None:
        if status in (401, 403):
            raise InvalidInput(self._about_token(status))
        if status in (301, 302, 303, 307, 308, 404, 405):
            raise InvalidInput(f"What answers at {self.url} is no Ray dashboard ({status}): give http(s)://HOST:8265.")
        if status != 200:
            lines = [line for line in body.decode(errors="replace").splitlines() if line.strip()]
            said = lines[-1].strip()[:300] if lines else "nothing"
            raise InfrastructureFailure(f"The cluster {self.url} answered with status {status}: {said}")

    def _about_token(self, status: int) -> str:
        where = "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, or write it to ~/.ray/auth_token"
        if self._token is None:
            return f"The cluster {self.url} asks for a token and there is none here: {where} (RAY_AUTH_MODE=token)."
        return f"The cluster {self.url} refuses the token that was found here ({status}): {where}."

    def _request(
        self, method: str, path: str, data: bytes | None = None, seconds: float = ANSWER_SECONDS, most: int | None = None
    ) -> tuple[int, bytes]:
        try:
            return self._http.request(method, path, data, seconds=seconds, most=most)
        except OSError as error:
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            raise ClusterUnreachable(
                f"The cluster {self.url} does not answer ({reason}): check its address, and that its dashboard runs."
            ) from error


def check_url(url: str) -> str:
    """Return the address of a dashboard without a last slash; raise InvalidInput for one that cannot be."""
    expected = "give http(s)://HOST:8265"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InvalidInput(f"The cluster's address is not valid ({error}): {expected}.") from error
    if "@" in parts.netloc:
        raise InvalidInput("The cluster's address holds credentials: leave them out and set RAY_AUTH_TOKEN.")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or not url.isprintable():
        raise InvalidInput(f"The cluster {url[:100]!r} is not valid: {expected}.")
    return url.rstrip("/")
