"""Checks the place where runs would be driven: the Ray cluster of a dashboard's address or RAY_ADDRESS, else this machine.

Plain HTTP to the dashboard: `GET /api/version` (Ray's version), `GET /nodes?view=summary` (what each node has and uses). With
RAY_AUTH_MODE=token it answers 401 without a token and 403 to a wrong one.
"""

import json
import re
import socket
import ssl
import urllib.error
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit

import psutil

from service.cluster.dashboard_http import DashboardHttp, check_token_is_safe
from service.doctor.findings import Check, Finding, failed, ok, skipped
from service.machine import this_machine
from service.settings import Settings

ANSWER_SECONDS = 3.0
MOST_BYTES = 32 * 1024**2
DASHBOARD_PORT = 8265
GIB = 1024**3
_USAGE = re.compile(r"([\d.]+)/([\d.]+) (CPU|GPU)\b")


def cluster_checks(settings: Settings) -> list[Check]:
    """The checks of the cluster that the settings name; raise InvalidInput where --cluster would carry a token in the clear."""
    address = settings.cluster or settings.ray_address
    if address is None:
        return [("Ray", _installed), ("token", lambda: _token_for_this_machine(settings)), ("resources", _this_machine)]
    if settings.cluster is not None and settings.cluster_token() is not None:
        check_token_is_safe(settings.cluster, settings)
    patient = _Dashboard(settings, address)
    return [("cluster", patient.reach), ("token", patient.token), ("Ray", patient.version), ("resources", patient.resources)]


def _installed() -> Finding:
    return ok(f"{metadata.version('ray')}, started on this machine for each run")


def _token_for_this_machine(settings: Settings) -> Finding:
    return ok("Ray makes one for its own use" if settings.ray_auth_mode == "token" else "none is needed")


def _this_machine() -> Finding:
    machine, memory = this_machine(), psutil.virtual_memory()
    busy = psutil.getloadavg()[0]
    return ok(
        f"{machine.cpus} CPUs ({busy:.1f} busy), {machine.gpus} GPUs, "
        f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB memory free"
    )


@dataclass
class _Dashboard:
    """A cluster's dashboard. `_status`: of the first answer, None without one."""

    settings: Settings
    address: str
    _status: int | None = None
    _version: dict[str, Any] = field(default_factory=dict)

    @property
    def _url(self) -> str:
        """The dashboard's address; next to a GCS address, where Ray puts it."""
        if self.address.startswith(("http://", "https://")):
            return self.address.rstrip("/")
        host = self.address.removeprefix("ray://").rpartition(":")[0] or "127.0.0.1"
        return f"http://{host}:{DASHBOARD_PORT}"

    def reach(self) -> Finding:
        """Whether a dashboard answers there."""
        if self.address.startswith("kube://"):
            return skipped("Clusters of Kubernetes are looked at by kubectl.")
        if self.settings.cluster and not self.address.startswith(("http://", "https://")):
            return failed(f"The cluster {self.address[:100]!r} has no scheme: write http://HOST:8265 or https://HOST.")
        if not urlsplit(self._url).hostname:
            return failed(f"The cluster {self.address[:100]!r} is no address: write http://HOST:8265.")
        try:
            self._status, answer = self._get("/api/version")
        except OSError as error:
            return failed(f"{self._url} {_why(error)}.")
        if self._status == 200:
            if not isinstance(answer, dict) or "ray_version" not in answer:
                return failed(
                    f"{self._url} is no Ray dashboard: give the address that `ray start --head` prints, such as http://HOST:8265."
                )
            self._version = answer
        elif self._status not in (401, 403):
            return failed(
                f"{self._url} answers with HTTP status {self._status}: see whether it is the address of a Ray dashboard."
            )
        return ok(f"{self._url} answers")

    def token(self) -> Finding:
        """Whether the cluster accepts the token, or wants none."""
        if self._status is None:
            return skipped("There is no cluster to ask.")
        if self._status == 401:
            return failed(
                "The cluster wants a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH, a file)."
            )
        if self._status == 403:
            return failed("The cluster does not accept this token: set RAY_AUTH_TOKEN to the one of this cluster.")
        if self.settings.cluster_token() is None:
            return ok("none is needed: anybody who reaches the cluster may run code on it")
        if not self.settings.cluster and self.settings.ray_auth_mode != "token":
            return failed("There is a token, but Ray itself sends it with RAY_AUTH_MODE=token alone: set that too.")
        return ok("accepted")

    def version(self) -> Finding:
        """Whether the cluster's Ray is the one that is installed here."""
        if not self._version:
            return skipped("The cluster does not say it.")
        there, here = str(self._version["ray_version"]), metadata.version("ray")
        if there != here:
            return failed(
                f"The cluster has Ray {there}, and here is {here}: both must be the same; use Ray {here} in the cluster's image."
            )
        return ok(there)

    def resources(self) -> Finding:
        """What of the cluster is free."""
        if not self._version:
            return skipped("The cluster does not say it.")
        status, answer = self._get("/nodes?view=summary")
        data = answer.get("data") if isinstance(answer, dict) else None
        if status != 200 or not isinstance(data, dict):
            return failed(f"The dashboard does not list its nodes (HTTP status {status}): see its log.")
        alive = [node for node in data.get("summary", []) if node.get("raylet", {}).get("state") == "ALIVE"]
        if not alive:
            return failed("No node of the cluster is alive: start one with `ray start --address`.")
        return ok(f"{_count(len(alive), 'node')}, {_free(data, alive)}")

    def _get(self, path: str) -> tuple[int, Any]:
        """The status and the JSON of an answer; raise OSError without one."""
        http = DashboardHttp(self._url, self.settings.cluster_token(), self.settings)
        status, body = http.request("GET", path, seconds=ANSWER_SECONDS, most=MOST_BYTES)
        try:
            return status, json.loads(body) if status == 200 else None
        except (ValueError, RecursionError):
            return status, None


def _free(data: dict[str, Any], alive: list[dict[str, Any]]) -> str:
    """`6 of 8 CPUs free, 1 of 2 GPUs free`; without the nodes' use, what there is in all."""
    sums = {"CPU": [0.0, 0.0], "GPU": [0.0, 0.0]}
    for text in (data.get("nodeLogicalResources") or {}).values():
        for used, total, name in _USAGE.findall(str(text)):
            sums[name][0] += float(total) - float(used)
            sums[name][1] += float(total)
    if not sums["CPU"][1]:
        totals = [node["raylet"].get("resourcesTotal", {}) for node in alive]
        whole = {name: sum(float(each.get(name, 0.0)) for each in totals) for name in sums}
        return ", ".join(f"{count:g} {name}s in all" for name, count in whole.items())
    return ", ".join(f"{free:g} of {total:g} {name}s free" for name, (free, total) in sums.items())


def _why(error: OSError) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return "has a certificate that is not trusted here: set SSL_CERT_FILE to the file of the authority that signed it"
    if isinstance(reason, ssl.SSLError):
        return "does not speak TLS: write http:// instead of https://"
    if isinstance(reason, ConnectionRefusedError):
        return "refuses the connection: see whether the cluster runs, and whether this is its dashboard's port (8265)"
    if isinstance(reason, socket.gaierror):
        return "has no such host: correct its name"
    if isinstance(reason, TimeoutError):
        return f"does not answer within {ANSWER_SECONDS:g} s: see whether the network lets it through"
    return f"cannot be reached ({reason}): see whether the cluster runs"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
