"""What a platform engineer sets for all runs in a namespace: the ConfigMap `delayline-defaults`, its key `defaults.yaml`."""

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from service.cluster.nodes import is_loopback
from service.errors import InvalidInput
from service.recipes.documents import parse as parse_yaml
from service.recipes.validation import nearest
from service.specs.parts import Frozen
from service.storage.location import S3Location, check_endpoint, parse_location

CONFIG_MAP = "delayline-defaults"
KEY = "defaults.yaml"

_QUANTITY = re.compile(r"(\d+(\.\d*)?|\.\d+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][-+]?\d+)?")
_UNITS = {
    "m": 1e-3,
    **{unit: 1000.0**n for n, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": 1024.0**n for n, unit in enumerate("KMGTPE", 1)},
}
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_OURS = ("ray.io/", "delayline.io/", "app.kubernetes.io/")


def amount(quantity: str) -> float:
    """A quantity of Kubernetes as a number: cores, or bytes; raise ValueError for what is none."""
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ValueError(f"{quantity[:40]!r} is no quantity of Kubernetes")
    number, unit = match[1], match[3] or ""
    return (
        float(number + unit) if unit[:1] in ("e", "E") and unit != "E" and unit != "Ei" else float(number) * _UNITS.get(unit, 1.0)
    )


def _quantity(value: str) -> str:
    if not _QUANTITY.fullmatch(value) or not re.search(r"[1-9]", value):
        raise ValueError(f"a quantity of Kubernetes is above 0 and looks like 500m, 2 or 1536Mi, not {value[:40]!r}")
    return value


def _number_as_text(value: Any) -> Any:
    """`cpu: 2` means "2"."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _name(value: str) -> str:
    if len(value) > 253 or not _SUBDOMAIN.fullmatch(value):
        raise ValueError(f"a name in Kubernetes has lower-case letters, digits, inner hyphens and dots, not {value[:40]!r}")
    return value


def _label_value(value: str) -> str:
    if not _LABEL_VALUE.fullmatch(value):
        raise ValueError(f"a label's value has at most 63 letters, digits, '-', '_' and '.', not {value[:40]!r}")
    return value


def _label_key(value: str) -> str:
    prefix, slash, name = value.rpartition("/")
    if (slash and (len(prefix) > 253 or not _SUBDOMAIN.fullmatch(prefix))) or not name or not _LABEL_VALUE.fullmatch(name):
        raise ValueError(f"a key looks like team or example.com/team, not {value[:40]!r}")
    return value


def _own_key(value: str) -> str:
    if _label_key(value).startswith(_OURS):
        raise ValueError(f"{value[:60]!r} is set by KubeRay or Delayline: choose another prefix")
    return value


def _image(value: str) -> str:
    if not re.fullmatch(r"[!-~]{1,500}", value):
        raise ValueError("an image is a reference without spaces, such as registry.example.com/delayline:0.1.0-cpu")
    return value


def _proxy(value: str) -> str:
    parts = urlsplit(value)
    if parts.username is not None or parts.password is not None or "@" in value:
        raise ValueError("a proxy's URL may hold no credentials, which all who read this ConfigMap would see")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"a proxy is written as http://HOST:PORT, not {value[:60]!r}")
    return value


def _endpoint(value: str) -> str:
    try:
        return check_endpoint(value)
    except InvalidInput as error:
        raise ValueError(str(error)) from error


def _store(value: str) -> str:
    try:
        location = parse_location(value, None)
    except InvalidInput as error:
        raise ValueError(str(error)) from error
    if not isinstance(location, S3Location):
        raise ValueError("pods and clients share no folder: write s3://bucket/prefix")
    return location.url


Quantity = Annotated[str, BeforeValidator(_number_as_text), AfterValidator(_quantity)]
Name = Annotated[str, AfterValidator(_name)]
LabelValue = Annotated[str, BeforeValidator(_number_as_text), AfterValidator(_label_value)]
Labels = dict[Annotated[str, AfterValidator(_own_key)], LabelValue]
Annotations = dict[
    Annotated[str, AfterValidator(_own_key)], Annotated[str, BeforeValidator(_number_as_text), Field(max_length=10_000)]
]
NodeSelector = dict[Annotated[str, AfterValidator(_label_key)], LabelValue]
Image = Annotated[str, AfterValidator(_image)]
Seconds = Annotated[int, Field(ge=1, le=2**31 - 1)]
Store = Annotated[str, AfterValidator(_store)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]


class Toleration(Frozen):
    """As in a pod's spec; `tolerationSeconds` is spelled as there."""

    key: Annotated[str, AfterValidator(_label_key)] | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    seconds: int | None = Field(default=None, alias="tolerationSeconds", ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise ValueError("a toleration with operator Exists has no value")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("a toleration without a key has operator Exists, and tolerates every taint")
        if self.seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds goes with the effect NoExecute alone")
        return self

    def document(self) -> dict[str, Any]:
        """As a pod's spec has it."""
        return self.model_dump(by_alias=True, exclude_none=True)


class PodResources(Frozen):
    """What a container asks for, and what it may take at most; without a limit as much as its node has."""

    cpu: Quantity
    memory: Quantity
    cpu_limit: Quantity | None = None
    memory_limit: Quantity | None = None

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        for name, least, most in (("cpu", self.cpu, self.cpu_limit), ("memory", self.memory, self.memory_limit)):
            if most is not None and amount(least) > amount(most):
                raise ValueError(f"{name} asks for {least}, above its {name}_limit of {most}")
        return self


class Pool(Frozen):
    """Nodes for workers, by a name that users give with `--pool`."""

    node_selector: NodeSelector = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    gpu_resource: Annotated[str, AfterValidator(_label_key)] = "nvidia.com/gpu"
    """The extended resource of which a worker with a GPU takes one."""
    spot: bool = False
    """Nodes that the cloud may take away: what GKE and AKS taint them with is tolerated, and the pods are labelled so."""
    priority_class: Name | None = None
    queue: LabelValue | None = None
    """Kueue's LocalQueue, instead of the namespace's."""
    image: Image | None = None
    """Instead of the namespace's, such as the one with CUDA."""
    runtime_class: Name | None = None
    max_workers: Annotated[int, Field(ge=1, le=100_000)] | None = None
    labels: Labels = Field(default_factory=dict)
    annotations: Annotations = Field(default_factory=dict)


class ClusterDefaults(Frozen):
    """The platform engineer's choices; all that a user need not know. Credentials never stand here: a Secret's name does."""

    image: Image | None = None
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[Name, ...] = ()
    store: Store | None = None
    """As pods reach it: s3://bucket/prefix."""
    s3_endpoint: Endpoint | None = None
    """Of an S3 server other than AWS, as pods reach it."""
    client_store: Store | None = None
    """As clients reach it, where that is not `store`."""
    client_s3_endpoint: Endpoint | None = None
    credentials_secret: Name | None = None
    """An existing Secret whose keys are variables, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""
    service_account: Name | None = None
    """An existing ServiceAccount with rights on the store (IRSA, workload identity), instead of such a Secret."""
    ca_secret: Name | None = None
    """An existing Secret that holds a bundle of CA certificates under `ca_key`, for the store's TLS."""
    ca_key: Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]{1,253}$")] = "ca.crt"
    http_proxy: Annotated[str, AfterValidator(_proxy)] | None = None
    https_proxy: Annotated[str, AfterValidator(_proxy)] | None = None
    no_proxy: Annotated[str, Field(pattern=r"^[!-~]{0,4000}$")] = ""
    """Comma-separated, beside the cluster's own names, which are never asked through a proxy."""
    priority_class: Name | None = None
    queue: LabelValue | None = None
    """Kueue's LocalQueue, in which runs with a Ray cluster of their own wait."""
    labels: Labels = Field(default_factory=dict)
    annotations: Annotations = Field(default_factory=dict)
    head: PodResources = PodResources(cpu="500m", memory="1536Mi", memory_limit="3Gi")
    """Ray's head with the driver beside it (measured once: 0.85 GiB with a driver early in training; sweeps and long runs take more)."""
    head_pool: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """The pool whose nodes the head and the submitter run on; best no spot nodes."""
    cpu_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of a worker's CPUs the part that is kept free for it; with less than 1 more pods share a node, and slow each other down."""
    submitter: PodResources = PodResources(cpu="50m", memory="192Mi", memory_limit="512Mi")
    """The pod that submits and follows the output (assumed; 20m and 128Mi were enough in a trial)."""
    ttl_seconds: Annotated[int, Field(ge=0, le=2**31 - 1)] = 5
    """How long a run's Ray cluster stays after its end (assumed: what it printed is in the store by then)."""
    active_deadline: Seconds | None = None
    """Seconds after which KubeRay ends a run that has not ended, waiting and restarts included."""
    pre_running_deadline: Seconds | None = None
    """Seconds after which KubeRay gives up a run whose driver has not started."""
    resubmissions: Annotated[int, Field(ge=0, le=1000)] = 20
    """How often a run is submitted again to a head that was made anew (assumed: a head lost daily for three weeks)."""
    pools: dict[Annotated[str, Field(min_length=1, max_length=63)], Pool] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.head_pool is not None and self.head_pool not in self.pools:
            raise ValueError(f"head_pool is {self.head_pool!r}, but the pools are {self._pool_names()}")
        for endpoint in (self.s3_endpoint, _endpoint_of(self.store)):
            if endpoint and is_loopback(urlsplit(endpoint).hostname or ""):
                raise ValueError(
                    f"the endpoint {endpoint!r} is a pod's own loopback: give the address by which pods reach the store"
                )
        return self

    @classmethod
    def parse(cls, text: str, where: str) -> Self:
        """Read the text of `defaults.yaml`; raise InvalidInput that names the ConfigMap, the key and the field.

        `where` says whose it is, such as `namespace team`.
        """
        what = f"The key {KEY} of the ConfigMap {CONFIG_MAP} ({where})"
        values = parse_yaml(text, what)
        if values is None:
            values = {}
        if not isinstance(values, dict):
            raise InvalidInput(f"{what} holds no mapping: write fields such as `image: …`.")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = min(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
            raise InvalidInput(f"{what} is not valid: {_problem(first)}; correct the ConfigMap.") from error

    def pool(self, name: str) -> Pool:
        """The pool of this name; raise InvalidInput that lists those there are."""
        if name not in self.pools:
            raise InvalidInput(
                f"There is no pool {name[:63]!r}{nearest(name, self.pools)}: the ConfigMap {CONFIG_MAP} defines {self._pool_names()}; "
                f"give --pool one of these, or leave it out."
            )
        return self.pools[name]

    def _pool_names(self) -> str:
        return ", ".join(sorted(self.pools)) or "none"


def _endpoint_of(store: str | None) -> str | None:
    location = parse_location(store, None) if store else None
    return location.endpoint if isinstance(location, S3Location) else None


def _problem(error: ErrorDetails) -> str:
    field = ".".join(str(part) for part in error["loc"] if part != "[key]")
    if error["type"] == "extra_forbidden":
        models: dict[int, type[Frozen]] = {1: ClusterDefaults, 2: PodResources, 3: Pool}
        fields = models.get(len(error["loc"]), Toleration).model_fields
        return f"there is no field {field[:100]!r}{nearest(str(error['loc'][-1]), fields)}"
    message = str(error["ctx"]["error"]) if error["type"] == "value_error" else error["msg"][:1].lower() + error["msg"][1:]
    return f"{field[:100]}: {message.rstrip('.')}" if field else message.rstrip(".")
