"""Pods as the `restricted` Pod Security level admits them: no root, no writable root, no privilege, no token of the API server.

What may be written are `/tmp` and `/cache`, an emptyDir each.
"""

from collections.abc import Mapping
from typing import Any

from service.cluster.cluster_defaults import ClusterDefaults, PodResources, Pool

Document = dict[str, Any]

USER = 1000
"""The image's user and group."""
GRACE_SECONDS = 30
"""From a pod's SIGTERM to its SIGKILL (derived: a driver that the system stops saves and ends within 25 s; an idle head with an autoscaler
was seen to take all of its grace, and what is cancelled must be free within a minute)."""
CACHE = "/cache"
HOME = "/tmp/home"  # noqa: S108 - a path in the pod; the image's own
SUBMITTER = "/opt/delayline/submitter.sh"
"""In the image: it corrects when KubeRay's submitter counts as done."""
_CA_FOLDER = "/etc/delayline-ca"
_TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a folder
_TOKEN_SECONDS = 3607
"""As the API server gives to every pod that asks for a token; the kubelet renews it."""
_NEVER_BY_PROXY = ("localhost", "127.0.0.1", ".svc", ".cluster.local")
_SPOT_TAINTS = (("cloud.google.com/gke-spot", "true"), ("kubernetes.azure.com/scalesetpriority", "spot"))
"""What GKE and AKS taint spot nodes with; EKS taints none."""
SPOT_LABEL = "delayline.io/spot"


def security() -> Document:
    """A pod's security context."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Document:
    """A container's security context."""
    return {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def resources(wanted: PodResources, gpus: Mapping[str, int] | None = None) -> Document:
    """A container's requests and limits; `gpus` counts extended resources, which are limits."""
    limits = {
        "cpu": wanted.cpu_limit,
        "memory": wanted.memory_limit,
        **{name: str(count) for name, count in (gpus or {}).items()},
    }
    found = {name: value for name, value in limits.items() if value is not None}
    return {"requests": {"cpu": wanted.cpu, "memory": wanted.memory}, **({"limits": found} if found else {})}


def variables(defaults: ClusterDefaults, own: Mapping[str, str]) -> dict[str, str]:
    """The variables of a container that runs drivers or workers; `own` are the run's and come last."""
    found = {"HOME": HOME, "DELAYLINE_CACHE": CACHE}
    if defaults.store:
        found["DELAYLINE_STORE"] = defaults.store
    if defaults.s3_endpoint:
        found["DELAYLINE_S3_ENDPOINT"] = defaults.s3_endpoint
    if defaults.ca_secret:
        found |= dict.fromkeys(("AWS_CA_BUNDLE", "SSL_CERT_FILE"), f"{_CA_FOLDER}/{defaults.ca_key}")
    return {**found, **_proxies(defaults), **own}


def _proxies(defaults: ClusterDefaults) -> dict[str, str]:
    """In both spellings, for libraries differ in which they read."""
    given = {"http_proxy": defaults.http_proxy, "https_proxy": defaults.https_proxy}
    found = {name: value for name, value in given.items() if value}
    if found:
        found["no_proxy"] = ",".join(dict.fromkeys([*filter(None, defaults.no_proxy.split(",")), *_NEVER_BY_PROXY]))
    return {spelling: value for name, value in found.items() for spelling in (name, name.upper())}


def as_list(values: Mapping[str, str]) -> list[Document]:
    """Variables as a container has them; Kubernetes would replace `$(NAME)` in a value and makes `$` of `$$`."""
    return [{"name": name, "value": value.replace("$", "$$")} for name, value in values.items()]


def ray_container(
    defaults: ClusterDefaults, image: str, own: Mapping[str, str], wanted: PodResources, gpus: Mapping[str, int] | None = None
) -> Document:
    """Ray's container of a head or of a worker."""
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "cache", "mountPath": CACHE}]  # noqa: S108 - a path in the pod
    if defaults.ca_secret:
        mounts.append({"name": "ca", "mountPath": _CA_FOLDER, "readOnly": True})  # type: ignore[dict-item]
    secrets = {"envFrom": [{"secretRef": {"name": defaults.credentials_secret}}]} if defaults.credentials_secret else {}
    return {
        "name": "ray",
        "image": image,
        "imagePullPolicy": defaults.image_pull_policy,
        "env": as_list(variables(defaults, own)),
        **secrets,
        "resources": resources(wanted, gpus),
        "securityContext": container_security(),
        "volumeMounts": mounts,
    }


def ray_pod(defaults: ClusterDefaults, container: Document, pool: Pool | None) -> Document:
    """The spec of a pod that holds Ray's container, on the nodes of `pool`."""
    volumes: list[Document] = [{"name": "tmp", "emptyDir": {}}, {"name": "cache", "emptyDir": {}}]
    if defaults.ca_secret:
        volumes.append({"name": "ca", "secret": {"secretName": defaults.ca_secret}})
    account = {"serviceAccountName": defaults.service_account} if defaults.service_account else {}
    return {
        **account,
        **common(defaults, pool),
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [container],
        "volumes": volumes,
    }


def submitter_pod(defaults: ClusterDefaults, image: str) -> Document:
    """The spec of the pod that submits the driver and follows what it prints; it needs neither store nor credentials."""
    container = {
        "name": "submitter",
        "image": image,
        "imagePullPolicy": defaults.image_pull_policy,
        "env": as_list({"HOME": HOME, "BASH_ENV": SUBMITTER}),
        "resources": resources(defaults.submitter),
        "securityContext": container_security(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - a path in the pod
    }
    return {
        **common(defaults, defaults.pools[defaults.head_pool] if defaults.head_pool else None),
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }


def common(defaults: ClusterDefaults, pool: Pool | None) -> Document:
    """What every pod's spec has: hardening, pull secrets, and where it is scheduled."""
    spec: Document = {"automountServiceAccountToken": False, "enableServiceLinks": False, "securityContext": security()}
    if defaults.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in dict.fromkeys(defaults.image_pull_secrets)]
    priority = (pool.priority_class if pool else None) or defaults.priority_class
    if priority:
        spec["priorityClassName"] = priority
    if pool is None:
        return spec
    if pool.node_selector:
        spec["nodeSelector"] = dict(pool.node_selector)
    tolerations = [each.document() for each in pool.tolerations]
    if pool.spot:
        tolerations += [{"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"} for key, value in _SPOT_TAINTS]
    if tolerations:
        spec["tolerations"] = tolerations
    if pool.runtime_class:
        spec["runtimeClassName"] = pool.runtime_class
    return spec


def autoscaler_token() -> Document:
    """The volume with the API server's token, for the autoscaler's container alone: drivers and users' code see none."""
    sources: list[Document] = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": _TOKEN_SECONDS}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    return {"name": "autoscaler-token", "projected": {"sources": sources}}


def autoscaler_options(wanted: PodResources, idle_seconds: int) -> Document:
    """KubeRay's autoscaler, a container beside the head's, hardened as it; its token and its /tmp are its own."""
    return {
        "version": "v2",
        "idleTimeoutSeconds": idle_seconds,
        "resources": resources(wanted),
        "env": as_list({"HOME": HOME}),
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "autoscaler-tmp", "mountPath": "/tmp"},  # noqa: S108 - a path in the pod
            {"name": "autoscaler-token", "mountPath": _TOKEN_FOLDER, "readOnly": True},
        ],
    }
