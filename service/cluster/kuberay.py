"""Drivers as RayJobs of KubeRay: each with a RayCluster of its own, or on one that is shared.

The client needs a kubeconfig alone: no token of Ray, no port-forward. What drives the run in the cluster keeps itself alive, so that
nothing here needs to stay.
"""

import contextlib
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from service.cluster.base import Cluster, Handle, Job, Request
from service.cluster.cluster_defaults import CONFIG_MAP, KEY, ClusterDefaults
from service.cluster.driver_jobs import argv, variables
from service.cluster.image_version import check_version
from service.cluster.kube_address import KubeAddress
from service.cluster.kube_api import KubeApi
from service.cluster.kube_yaml import dump
from service.cluster.manifests import RayJobPlan, ray_job
from service.cluster.nodes import check_room, is_loopback
from service.cluster.packages import Package, collect
from service.cluster.ray_cluster_spec import nodes_of
from service.cluster.ray_job_status import has_ended, outcome_of
from service.cluster.startup import Objects, why
from service.errors import Conflict, DelaylineError, InfrastructureFailure, InvalidInput, NotFound
from service.records import user_package
from service.settings import Settings
from service.specs.parts import Resources
from service.storage import open_store
from service.storage.location import S3Location, parse_location

LOOK_SECONDS = 2.0
"""Between looks at a RayJob (assumed: KubeRay itself looks at the job every 3 s)."""
WHY_SECONDS = 4.0
"""Between looks at what keeps a RayJob from starting (derived: what is wrong is to be said within 30 s)."""
GONE_SECONDS = 90.0
"""For a RayJob that is deleted to be gone (assumed: its pods have 30 to 60 s)."""
RUN_LABEL = "delayline.io/run"

Document = dict[str, Any]


@dataclass(frozen=True)
class KubeRayRequest(Request):
    """A RayJob to create, and the user's code that goes into the store for it."""

    job: Job
    manifest: Document
    package: Package | None = None

    def document(self) -> Document:
        """The command, and what the API server is sent."""
        return {"command": self.manifest["spec"]["entrypoint"], "manifest": self.manifest}

    def manifest_text(self) -> str:
        """The RayJob as a file for `kubectl apply -f`."""
        return dump(self.manifest)


class KubeRay(Cluster):
    """A namespace of a Kubernetes cluster with the KubeRay operator, and in it a shared RayCluster if the address names one."""

    keeps_drivers = True

    def __init__(self, address: KubeAddress, api: KubeApi, settings: Settings) -> None:
        self._address = address
        self._api = api
        self._settings = settings
        own = "a RayCluster of its own"
        where = f"the RayCluster {address.ray_cluster}" if address.ray_cluster else own
        self.queued_seconds = settings.wait_limit
        self.description = f"{where} in the namespace {address.namespace} ({api.where})"

    @classmethod
    def of(cls, settings: Settings) -> "KubeRay":
        """The one that the settings name."""
        address = KubeAddress.parse(settings.cluster or "")
        return cls(address, KubeApi.of(address, settings), settings)

    @cached_property
    def defaults(self) -> ClusterDefaults:
        """What the platform engineer keeps in the namespace for all; raise InvalidInput where there is none, or it has a mistake."""
        where = f"the ConfigMap {CONFIG_MAP} of the namespace {self._address.namespace}"
        try:
            data = self._api.config_map(CONFIG_MAP)
        except NotFound:
            self._api.check_namespace()
            raise InvalidInput(
                f"There is no {where.removeprefix('the ')} ({self._api.where}), which names the image and the store: apply one such as "
                f"k8s/kuberay/delayline-defaults.yaml."
            ) from None
        if KEY not in data:
            raise InvalidInput(f"{where[0].upper()}{where[1:]} has no key {KEY}: see k8s/kuberay/delayline-defaults.yaml.")
        return ClusterDefaults.parse(data[KEY], f"namespace {self._address.namespace}")

    def client_settings(self, settings: Settings) -> Settings:
        """The settings with the store as clients reach it, where the user names none; the clocks are compared on the way."""
        defaults = self.defaults
        changes: Document = {}
        if "store" not in settings.model_fields_set and (store := defaults.client_store or defaults.store):
            changes["store"] = store
        if settings.s3_endpoint is None and (endpoint := defaults.client_s3_endpoint or defaults.s3_endpoint):
            changes["s3_endpoint"] = endpoint
        self._settings = settings.model_copy(update=changes)
        return self._settings

    def remark(self) -> str | None:
        return self._api.clock_remark()

    def request(self, job: Job) -> KubeRayRequest:
        """The RayJob; the same for the same job, whatever is in the cluster."""
        defaults, settings = self.defaults, self._settings
        check_version(defaults.pool(settings.pool).image if settings.pool else None, defaults)
        package = collect(job.modules, job.folder, job.data)
        folder = user_package.REFERENCE + package.sha256 if package else "."
        plan = RayJobPlan(
            name=job.run_id,
            namespace=self._address.namespace,
            kind=job.kind,
            command=argv(job, "python", self._store_there(), folder, claims=True),
            variables={**variables(settings), **self._store_variables()},
            workers=job.workers,
            worker=job.worker,
            defaults=defaults,
            pool=defaults.pool(settings.pool) if settings.pool else None,
            ray_cluster=self._address.ray_cluster,
            owner=None,
        )
        return KubeRayRequest(job, ray_job(plan), package)

    def start(self, request: Request) -> "RayJobOfKubeRay":
        """Create the RayJob, after the user's code is in the store; a living one of the name is taken, one that has ended makes way."""
        if not isinstance(request, KubeRayRequest):
            raise TypeError(f"{type(request).__name__} is of another cluster")
        self.prepare(request)
        if request.package is not None:
            user_package.refer(open_store(self._settings), request.job.run_id, user_package.REFERENCE + request.package.sha256)
        deadline = time.monotonic() + GONE_SECONDS
        while True:
            try:
                self._api.create("rayjobs", request.manifest)
                return self._handle(request.job.run_id)
            except Conflict:
                if self.find(request.job.run_id) is not None:
                    return self._handle(request.job.run_id)
                self._remove(request.job.run_id)
            except NotFound as error:
                raise InvalidInput(f"The RayJob cannot be created ({error}): create what is missing.") from error
            if time.monotonic() > deadline:
                raise InfrastructureFailure(
                    f"The RayJob {request.job.run_id} of an earlier submission is not gone after {GONE_SECONDS:g} s: delete it, "
                    f"kubectl -n {self._address.namespace} delete rayjob {request.job.run_id}, and submit again."
                )
            time.sleep(1.0)

    def prepare(self, request: Request) -> None:
        """Put the user's code into the store: what the manifest names by its digest."""
        if isinstance(request, KubeRayRequest) and request.package is not None:
            user_package.put(open_store(self._settings), request.package.archive)

    def find(self, run_id: str) -> "RayJobOfKubeRay | None":
        try:
            document = self._api.get("rayjobs", run_id)
        except NotFound:
            return None
        _check_is_ours(document, run_id)
        return None if has_ended(document) else self._handle(run_id)

    def check_code(self, job: Job) -> None:
        collect(job.modules, job.folder, job.data)

    def check_store(self, url: str) -> None:
        """Pods see no folder of this machine, and no endpoint on its loopback."""
        location = parse_location(self._settings.store, self._settings.s3_endpoint)
        if not isinstance(location, S3Location):
            raise InvalidInput(
                f"The store {url} is a folder of this machine, which pods do not see: use --store s3://bucket/prefix, or leave --store "
                f"out for the one of delayline-defaults."
            )
        if location.endpoint and is_loopback(urlsplit(location.endpoint).hostname or "") and not self.defaults.s3_endpoint:
            raise InvalidInput(
                f"The store's endpoint {location.endpoint} is this machine's own, which pods do not reach: give one that they do, or set "
                f"s3_endpoint in delayline-defaults."
            )

    def check_resources(self, workers: int, worker: Resources) -> None:
        """A shared cluster of fixed size is measured by its specification; one that may grow, or is made for the run, is not."""
        pool = self.defaults.pool(self._settings.pool) if self._settings.pool else None
        if pool is not None and pool.max_workers is not None and workers > pool.max_workers:
            raise InvalidInput(
                f"The pool {self._settings.pool} has room for {pool.max_workers} workers, not {workers}: use fewer."
            )
        if self._address.ray_cluster is None:
            return
        try:
            spec = self._api.get("rayclusters", self._address.ray_cluster)["spec"]
        except NotFound:
            raise InvalidInput(
                f"There is no RayCluster {self._address.ray_cluster!r} in the namespace {self._address.namespace}: "
                f"kubectl -n {self._address.namespace} get rayclusters lists them; without a name the run gets its own."
            ) from None
        if not spec.get("enableInTreeAutoscaling"):
            check_room(nodes_of(spec), workers, worker, self.description)

    def _store_there(self) -> str:
        """The store as pods reach it: of the defaults' own bucket their endpoint, which stands in the pods' environment."""
        location = parse_location(self._settings.store, self._settings.s3_endpoint)
        return (
            S3Location(location.bucket, location.prefix, None).url if isinstance(location, S3Location) else self._settings.store
        )

    def _store_variables(self) -> dict[str, str]:
        endpoint = self.defaults.s3_endpoint
        if endpoint is None:
            location = parse_location(self._settings.store, self._settings.s3_endpoint)
            endpoint = location.endpoint if isinstance(location, S3Location) else None
        return {"DELAYLINE_S3_ENDPOINT": endpoint} if endpoint else {}

    def _remove(self, name: str) -> None:
        """Delete a RayJob that has ended; another one that took its name meanwhile stays."""
        with contextlib.suppress(NotFound, Conflict):
            document = self._api.get("rayjobs", name)
            if has_ended(document) and "deletionTimestamp" not in document["metadata"]:
                self._api.delete("rayjobs", name, document["metadata"]["uid"])

    def _handle(self, run_id: str) -> "RayJobOfKubeRay":
        return RayJobOfKubeRay(self._api, run_id)


class RayJobOfKubeRay(Handle):
    """A RayJob in the cluster, which goes by the run's id."""

    def __init__(self, api: KubeApi, run_id: str) -> None:
        self._api = api
        self._run_id = run_id
        self._code: int | None = None
        self._said = ""
        self._next_look = 0.0
        self._next_why = 0.0
        self._why: str | None = None

    def poll(self) -> int | None:
        """As the base says; raise ClusterUnreachable where the API server is away for long."""
        if self._code is None and time.monotonic() >= self._next_look:
            self._look()
            self._next_look = time.monotonic() + LOOK_SECONDS
        return self._code

    def _look(self) -> None:
        try:
            document = self._api.get("rayjobs", self._run_id)
        except NotFound:
            self._code = InfrastructureFailure.exit_code
            self._said = (
                f"The RayJob {self._run_id} was deleted from the namespace {self._api.namespace}: the same command goes on from the last "
                f"checkpoint."
            )
            return
        if has_ended(document):
            self._code, self._said = outcome_of(document)

    def hindrance(self) -> str | None:
        """What keeps the RayJob from starting, looked at now and then; None where nothing does."""
        if self._code is None and time.monotonic() >= self._next_why:
            with contextlib.suppress(DelaylineError):
                self._why = why(self._objects())
            self._next_why = time.monotonic() + WHY_SECONDS
        return self._why

    def _objects(self) -> Objects:
        job = self._api.get("rayjobs", self._run_id)
        status = job.get("status") or {}
        pods = self._api.pods(f"job-name={self._run_id}")
        cluster: Document | None = None
        if name := status.get("rayClusterName"):
            with contextlib.suppress(NotFound):
                cluster = self._api.get("rayclusters", str(name))
            if (job["spec"].get("clusterSelector") or {}) == {}:
                pods += self._api.pods(f"ray.io/cluster={name}")
        return Objects(job, cluster, pods, self._api.warnings(), self._api.now)

    def stop(self, grace: float = 0.0) -> None:
        """Delete the RayJob and with it all that it started; Kubernetes ends its pods in their grace period."""
        if self._code is None:
            with contextlib.suppress(DelaylineError):
                self._api.delete("rayjobs", self._run_id)

    def output(self) -> str:
        """Why it ended, where the run's own documents may not say it: its processes write their output to the store themselves."""
        return f"Error: {self._said}\n" if self._said else ""


def _check_is_ours(document: Document, run_id: str) -> None:
    if (document["metadata"].get("labels") or {}).get(RUN_LABEL) != run_id:
        raise InvalidInput(
            f"The namespace has a RayJob {run_id!r} that is none of Delayline's (it lacks the label {RUN_LABEL}): give another --name."
        )
