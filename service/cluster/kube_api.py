"""The API server of a Kubernetes cluster, as far as submitting needs it: few calls, each with a time limit and clear errors."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import yaml

from service.cluster.kube_address import KubeAddress
from service.errors import ClusterUnreachable, Conflict, DelaylineError, InfrastructureFailure, InvalidInput, NotFound
from service.settings import Settings

Document = dict[str, Any]

GROUP, VERSION = "ray.io", "v1"
TIMEOUT = (5.0, 20.0)
"""Seconds for a connection and for an answer (assumed: an API server answers within a second)."""
AWAY_SECONDS = 15.0
"""An API server that was silent for so long is given up (assumed: it is restarted within seconds)."""
PAUSE_SECONDS = 0.5
MOST_WARNINGS = 500
"""Events that are looked at (assumed: more than a namespace warns of within minutes)."""
SKEW_SECONDS = 60.0
"""More than this between the two clocks is said (assumed: NTP keeps them within one second, S3 refuses 900)."""
_PASSING = frozenset({429, 500, 502, 503, 504})


class KubeApi:
    """One namespace of the cluster that a kubeconfig's context names.

    Every call raises InvalidInput for what the user can mend (credentials, rights, names), ClusterUnreachable where nobody answers,
    NotFound and Conflict as named. `clock` gives seconds since 1970.
    """

    def __init__(self, address: KubeAddress, client: Any, where: str, clock: Callable[[], float] = time.time) -> None:
        self.namespace = address.namespace
        self.where = where
        """The server and the context, for sentences."""
        self.now: float | None = None
        """The server's clock at its last answer, in seconds since 1970."""
        self.skew = 0.0
        """By how many seconds this machine's clock is ahead of the server's."""
        self._client = client
        self._clock = clock

    @classmethod
    def of(cls, address: KubeAddress, settings: Settings) -> "KubeApi":
        """By the kubeconfig that KUBECONFIG names, or `~/.kube/config`, or, in a pod without one, its service account."""
        try:
            from kubernetes import client, config
        except ModuleNotFoundError as error:
            raise InvalidInput(
                "--cluster kube://… needs the Python client of Kubernetes, which is not installed: pip install 'delayline[kube]'."
            ) from error
        configuration = client.Configuration()
        try:
            where = _load(config, configuration, address, settings)
        except (config.ConfigException, OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
            # The client checks little of what it reads: a file that is no kubeconfig fails wherever it is first used.
            raise InvalidInput(
                f"There is no kubeconfig that can be used ({_short(str(error))}): set KUBECONFIG to the file with which kubectl works."
            ) from error
        configuration.retries = False
        return cls(address, client.ApiClient(configuration), where)

    def get(self, plural: str, name: str) -> Document:
        """A RayJob (`rayjobs`) or RayCluster (`rayclusters`) of the namespace."""
        return self._ask("get", plural, "GET", f"{_path(self.namespace, plural)}/{name}")

    def create(self, plural: str, manifest: Document, dry_run: bool = False) -> Document:
        """Create an object; raise Conflict where one of its name exists. A key that the CRD does not have is refused."""
        query = [("fieldValidation", "Strict"), *([("dryRun", "All")] if dry_run else [])]
        return self._ask("create", plural, "POST", _path(self.namespace, plural), query, manifest)

    def delete(self, plural: str, name: str, uid: str | None = None) -> None:
        """Delete an object and what it owns; one that is gone is no error. With `uid` only that very one, else raise Conflict."""
        body: Document = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        body |= {"preconditions": {"uid": uid}} if uid else {}
        try:
            self._ask("delete", plural, "DELETE", f"{_path(self.namespace, plural)}/{name}", body=body)
        except NotFound:
            return

    def check_namespace(self) -> None:
        """Raise InvalidInput where the namespace is not there; a user who may not look learns it from what comes next."""
        try:
            self._ask("get", "namespaces", "GET", f"/api/v1/namespaces/{self.namespace}")
        except NotFound:
            raise self._no_namespace() from None
        except InvalidInput as refused:
            if " may not " not in str(refused):
                raise

    def config_map(self, name: str) -> Document:
        """The data of a ConfigMap."""
        found = self._ask("get", "configmaps", "GET", f"/api/v1/namespaces/{self.namespace}/configmaps/{name}")
        return found.get("data") or {}

    def pods(self, selector: str) -> list[Document]:
        """The pods that have these labels."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        return list(self._ask("list", "pods", "GET", path, [("labelSelector", selector)]).get("items") or [])

    def warnings(self) -> list[Document]:
        """The namespace's events of the type Warning."""
        path = f"/api/v1/namespaces/{self.namespace}/events"
        query = [("fieldSelector", "type=Warning"), ("limit", str(MOST_WARNINGS))]
        return list(self._ask("list", "events", "GET", path, query).get("items") or [])

    def _ask(
        self,
        verb: str,
        resource: str,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None = None,
        body: Document | None = None,
    ) -> Document:
        """Send one request; while the server is away, or says that it cannot answer now, again for AWAY_SECONDS."""
        deadline = time.monotonic() + AWAY_SECONDS
        while True:
            try:
                status, headers, data = self._send(method, path, query or [], body)
            except ConnectionError as error:
                if time.monotonic() > deadline:
                    raise ClusterUnreachable(
                        f"The API server of Kubernetes ({self.where}) has not answered for {AWAY_SECONDS:g} s ({_short(str(error))}): "
                        f"look whether kubectl reaches it; a run that is under way there goes on meanwhile."
                    ) from error
            else:
                self._note_clock(headers)
                if status < 300:
                    return dict(json.loads(data or b"{}"))
                if status not in _PASSING or time.monotonic() > deadline:
                    raise self._error(status, _message(data), verb, resource)
            time.sleep(PAUSE_SECONDS)

    def _send(
        self, method: str, path: str, query: list[tuple[str, str]], body: Document | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One request; raise ConnectionError where nobody answers."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        with _as_connection_errors(HTTPError):
            try:
                answer = self._client.call_api(
                    *self._client.param_serialize(
                        method,
                        path,
                        query_params=query,
                        header_params={"Accept": "application/json", "Content-Type": "application/json"},
                        body=body,
                        auth_settings=["BearerToken"],
                    ),
                    _request_timeout=TIMEOUT,
                )
                return answer.status, answer.getheaders(), answer.read() or b""
            except ApiException as error:
                return int(error.status or 0), error.headers or {}, (error.body or "").encode()

    def _note_clock(self, headers: Mapping[str, str]) -> None:
        try:
            self.now = parsedate_to_datetime(headers.get("Date", "")).timestamp()
        except (TypeError, ValueError):
            return
        self.skew = self._clock() - self.now

    def clock_remark(self) -> str | None:
        """What there is to say of the two clocks, or None."""
        if abs(self.skew) < SKEW_SECONDS:
            return None
        word = "ahead of" if self.skew > 0 else "behind"
        return (
            f"This machine's clock is {abs(self.skew):.0f} s {word} the one of the cluster ({self.where}): set it by NTP, for tokens and "
            f"S3 signatures are refused by wrong clocks."
        )

    def _error(self, status: int, message: str, verb: str, resource: str) -> DelaylineError:
        """What an answer stands for that is none of success."""
        match status:
            case 401:
                skewed = f" {remark}" if (remark := self.clock_remark()) else ""
                return InvalidInput(
                    f"The API server of Kubernetes ({self.where}) does not accept the credentials of the kubeconfig; they may have "
                    f"expired: log in again, as for kubectl.{skewed}"
                )
            case 403:
                return self._forbidden(message, verb, resource)
            case 404 if resource in ("rayjobs", "rayclusters") and message.startswith("404 page not found"):
                return InvalidInput(
                    f"The cluster ({self.where}) has no {resource}.{GROUP}/{VERSION}: install the KubeRay operator 1.6 or newer, "
                    f"helm install kuberay-operator kuberay/kuberay-operator."
                )
            case 404 if message.startswith("namespaces ") and resource != "namespaces":
                return self._no_namespace()
            case 404:
                return NotFound(_short(message))
            case 409:
                return Conflict(_short(message))
            case 400 | 422:
                return self._refused(message, resource)
        return InfrastructureFailure(f"The API server of Kubernetes ({self.where}) answered {status}: {_short(message)}.")

    def _no_namespace(self) -> InvalidInput:
        return InvalidInput(
            f"There is no namespace {self.namespace!r} in the cluster ({self.where}): give another in --cluster kube://NAMESPACE, or "
            f"create it: kubectl create namespace {self.namespace}."
        )

    def _forbidden(self, message: str, verb: str, resource: str) -> InvalidInput:
        if "exceeded quota" in message or "admission" in message or "violates PodSecurity" in message:
            return InvalidInput(f"The cluster ({self.where}) does not admit the {resource}: {_short(message)}.")
        group = f".{GROUP}" if resource.startswith("ray") else ""
        return InvalidInput(
            f"The user of the kubeconfig may not {verb} {resource}{group} in the namespace {self.namespace!r} ({self.where}): ask for the "
            f"Role delayline-submitter of k8s/kuberay/rbac.yaml."
        )

    def _refused(self, message: str, resource: str) -> DelaylineError:
        if "unknown field" in message:
            return InvalidInput(
                f"The KubeRay in the cluster ({self.where}) is too old ({_short(message)}): update its operator and its CRDs to 1.6 or newer."
            )
        if "denied the request" in message:
            return InvalidInput(f"The cluster ({self.where}) does not admit the {resource}: {_short(message)}.")
        return InvalidInput(f"The cluster ({self.where}) refuses the {resource}: {_short(message)}.")


def _load(config: Any, configuration: Any, address: KubeAddress, settings: Settings) -> str:
    """Fill the client's configuration; return what to call the place."""
    if settings.in_kubernetes and settings.kubeconfig is None and address.context is None:
        config.load_incluster_config(client_configuration=configuration)
        return "the cluster of this pod"
    file = settings.kubeconfig
    contexts, active = config.list_kube_config_contexts(file)
    names = sorted(each["name"] for each in contexts)
    name = address.context or (active or {}).get("name")
    if name not in names:
        known = ", ".join(names[:10]) or "none"
        raise InvalidInput(
            f"The kubeconfig has no context {name!r}, only {known}: correct ?context= of --cluster, or KUBECONFIG."
        )
    config.load_kube_config(file, context=name, client_configuration=configuration)
    return f"context {name}"


@contextmanager
def _as_connection_errors(*kinds: type[Exception]) -> Iterator[None]:
    try:
        yield
    except kinds as error:
        cause = getattr(error, "reason", None) or error
        raise ConnectionError(str(cause)) from error


def _path(namespace: str, plural: str) -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{plural}"


def _message(data: bytes) -> str:
    """What an answer says of its failure."""
    text = data.decode(errors="replace")
    try:
        return str(json.loads(text).get("message") or text)
    except (ValueError, AttributeError):
        return text


def _short(text: str, longest: int = 300) -> str:
    """One line of a text, without a full stop."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= longest else f"{line[:longest]}…"
