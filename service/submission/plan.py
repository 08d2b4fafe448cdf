"""Plan a run: what would be submitted, checked in full; nothing is written or started."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from service.checks.train import check_dataset, check_names, check_stopping, user_modules
from service.cluster.base import Cluster, Job
from service.cluster.driver_jobs import driver_job
from service.names import check_run_id, new_run_id
from service.records.claim import NOUNS, kind_of
from service.records.first_weights import origin_of_weights
from service.records.run_record import Document
from service.records.submission_schemas import Origin
from service.settings import Settings
from service.specs.parts import Resources
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.storage.paths import RunPaths


@dataclass(frozen=True)
class Request:
    """What to run, a run or a sweep, and under which id."""

    spec: TrainSpec | SweepSpec
    stem: str
    """Where the spec comes from, which an id that is made begins with."""
    folder: Path
    """The user's own, from where their modules are imported."""
    run_id: str | None = None
    """Without it an id is made."""
    resume: bool = False
    command: tuple[str, ...] = ()
    """The command line that makes the same request again."""

    @property
    def kind(self) -> str:
        """`train` or `sweep`."""
        return kind_of(self.spec)

    def origin(self, dataset_version: str) -> Origin:
        """How the run is asked for, as its submission keeps it."""
        return Origin(recipe=self.stem, command=self.command, folder=str(self.folder), dataset_version=dataset_version)


@dataclass(frozen=True)
class Plan:
    """What will happen; made without a write to the store."""

    run_id: str
    spec: TrainSpec | SweepSpec
    settings: Settings
    store_url: str
    cluster: str
    folder: Path
    resume: bool
    origin: Origin
    """How the run was asked for."""
    modules: tuple[str, ...]
    """Of the user's own."""
    data: tuple[str, ...]
    """The patterns of the files that travel with them to a cluster."""
    retries: int
    workers: tuple[int, int]
    """The fewest and the most workers at a time, of all trials of a sweep."""
    worker: Resources
    details: Document
    """What is shown of the plan beside the spec: dataset, resources, a sweep's trials."""

    @property
    def kind(self) -> str:
        """`train` or `sweep`."""
        return kind_of(self.spec)

    @property
    def noun(self) -> str:
        """`run` or `sweep`, for people."""
        return NOUNS[self.kind]

    def job(self, resume: bool, changed: bool = False, supervised: bool = False) -> Job:
        """The driver's job, or its supervisor's; `changed`: this plan's spec differs from the stored one."""
        changes = json.dumps(self.spec.document()) if changed else None
        job = driver_job(self.settings, self.kind, self.run_id, self.store_url, self.folder, resume, changes)
        submission = {"kind": self.kind, "spec": self.spec.document(), "origin": self.origin.document()}
        return replace(
            job,
            modules=self.modules,
            data=self.data,
            supervised=supervised,
            retries=self.retries,
            submission=json.dumps(submission, sort_keys=True),
            workers=self.workers,
            worker=self.worker,
        )

    def document(self) -> Document:
        """The plan for people and for `--json`; what is started for it is the cluster's to say."""
        return {
            "id": self.run_id,
            "kind": self.kind,
            "spec": self.spec.model_dump(mode="json") | {"workers": self.spec.document()["workers"]},
            **self.details,
            "cluster": self.cluster,
            "store": self.store_url,
            "folder": str(self.folder),
        }


def resources(spec: TrainSpec) -> Document:
    """What a run takes of its cluster."""
    worker, counts = spec.worker, spec.worker_counts
    return {
        "workers": sorted(counts),
        "cpus_per_worker": worker.cpus,
        "gpus_per_worker": worker.gpus,
        "cpus": max(counts) * worker.cpus,
        "gpus": max(counts) * worker.gpus,
        **({"memory": max(counts) * worker.memory} if worker.memory else {}),
    }


def plan(request: Request, settings: Settings, store: Store, cluster: Cluster) -> Plan:
    """Check all of a run that can be checked before anything starts; raise InvalidInput or UnknownName."""
    spec = request.spec
    assert isinstance(spec, TrainSpec)
    identity = check_run_id(request.run_id) if request.run_id is not None else new_run_id(request.stem)
    check_names(spec, request.folder)
    if not store.exists(RunPaths(identity).spec):
        check_stopping(spec)
    dataset = check_dataset(spec, store)
    cluster.check_store(store.url)
    cluster.check_resources(spec.worker_counts[-1], spec.worker)
    origin = request.origin(dataset["version"]).changed(queued_seconds=cluster.queued_seconds)
    weights = origin_of_weights(store, spec, identity)
    origin = origin if weights is None else origin.changed(init_from=weights)
    first = {} if weights is None else {"init_from": weights.document()}
    details = {"dataset": dataset, **first, "resources": resources(spec)}
    return Plan(
        run_id=identity,
        spec=spec,
        settings=settings,
        store_url=store.url,
        cluster=cluster.description,
        folder=request.folder,
        resume=request.resume,
        origin=origin,
        modules=user_modules(spec),
        data=spec.package_data,
        retries=spec.retries,
        workers=(min(spec.worker_counts), max(spec.worker_counts)),
        worker=spec.worker,
        details=details,
    )
