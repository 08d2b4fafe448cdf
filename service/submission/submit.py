"""Plan a run, then submit it: nothing is written or started before the plan stands, and a repeat does no harm."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.checks.train import check_dataset, check_names, check_stopping, user_modules
from service.cluster.base import Cluster, Job
from service.cluster.local_ray import driver_job
from service.errors import InvalidInput
from service.names import check_run_id, new_run_id
from service.records.first_weights import origin_of_weights
from service.records.lease import lease_is_live, lease_of
from service.records.run_record import ENDED, Document, RunRecord, as_of_today, rows_to_bytes
from service.records.standing import standing_of
from service.settings import Settings
from service.specs.sweep import SweepSpec
from service.specs.tags import kept_tags, without_tags
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.storage.paths import RunPaths
from service.sweeps.trials import goes_further

CHANGEABLE = {
    "train": ("workers", "worker", "retries", "time_limit", "stall_limit", "input", "package_data"),
    "sweep": ("workers", "parallel", "trials", "budget", "together"),
}
"""Keys that a resumed run of each kind may change: the run is the same, or goes further, with other values."""


_NOUNS = {"train": "run", "sweep": "sweep"}


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
    origin: Document
    """How the run was asked for: `recipe`, `command`, `folder`, `dataset_version`, `init_from`."""
    modules: tuple[str, ...]
    """Of the user's own."""
    data: tuple[str, ...]
    """The patterns of the files that travel with them to a cluster."""
    retries: int
    details: Document
    """What is shown of the plan beside the spec: dataset, resources, a sweep's trials."""

    @property
    def kind(self) -> str:
        """`train` or `sweep`."""
        return "sweep" if isinstance(self.spec, SweepSpec) else "train"

    @property
    def noun(self) -> str:
        """`run` or `sweep`, for people."""
        return _NOUNS[self.kind]

    def job(self, resume: bool, changed: bool = False) -> Job:
        """The driver's job; `changed`: this plan's spec differs from the stored one."""
        changes = json.dumps(self.spec.document()) if changed else None
        job = driver_job(self.settings, self.kind, self.run_id, self.store_url, self.folder, resume, changes)
        return replace(job, modules=self.modules, data=self.data)

    def document(self) -> Document:
        """The plan for people and for `--json`."""
        return {
            "id": self.run_id,
            "kind": self.kind,
            "spec": self.spec.model_dump(mode="json") | {"workers": self.spec.document()["workers"]},
            **self.details,
            "cluster": self.cluster,
            "store": self.store_url,
            "folder": str(self.folder),
            "command": list(self.job(self.resume).argv),
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


@dataclass(frozen=True)
class Submission:
    """What became of a plan.

    `action`: `start` (a driver is to be started), `attach` (somebody drives the run) or `finished` (it has its result).
    """

    action: str
    resume: bool = False
    """The driver must be told to go on with a run that failed or was cancelled, or with a sweep that goes further."""
    changed: bool = False
    """The plan's spec replaces the stored one for this submission."""
    earlier_end: float | None = None
    """When the run ended before, in seconds since 1970."""
    remark: str | None = None
    """What of the plan the run does not take over, and trains the same without."""


def plan(
    spec: TrainSpec,
    settings: Settings,
    store: Store,
    cluster: Cluster,
    *,
    stem: str,
    folder: Path,
    run_id: str | None = None,
    resume: bool = False,
    command: tuple[str, ...] = (),
) -> Plan:
    """Check all that can be checked before anything starts; raise InvalidInput or UnknownName."""
    identity = check_run_id(run_id) if run_id is not None else new_run_id(stem)
    check_names(spec, folder)
    if not store.exists(RunPaths(identity).spec):
        check_stopping(spec)
    dataset = check_dataset(spec, store)
    cluster.check_store(store.url)
    cluster.check_resources(spec.worker_counts[-1], spec.worker)
    origin = {"recipe": stem, "command": list(command), "folder": str(folder), "dataset_version": dataset["version"]}
    origin |= origin_of_weights(store, spec, identity)
    first = {"init_from": origin["init_from"]} if "init_from" in origin else {}
    details = {"dataset": dataset, **first, "resources": resources(spec)}
    where = (settings, store.url, cluster.description, folder)
    return Plan(identity, spec, *where, resume, origin, user_modules(spec), spec.package_data, spec.retries, details)


def submit(plan: Plan, store: Store) -> Submission:
    """Claim the run's id, or find out how the run with this id goes on.

    Raise InvalidInput when the id stands for another spec, or for a run that failed or was cancelled without `resume`.
    """
    record = RunRecord(store, plan.run_id)
    if not plan.resume and record.claim(plan.spec, plan.origin):
        return Submission("start")
    submission = record.submission()
    stored = as_of_today(submission["spec"], type(plan.spec))
    differences = differing(without_tags(stored), without_tags(plan.spec.document()))
    refused = [line for key, line in differences if not (plan.resume and key in CHANGEABLE[plan.kind])]
    if submission.get("kind", "train") != plan.kind:
        raise InvalidInput(f"{plan.run_id!r} is a {_NOUNS[str(submission.get('kind', 'train'))]}: give another --name.")
    if refused:
        changeable = ", ".join(CHANGEABLE[plan.kind])
        raise InvalidInput(
            f"The {plan.noun} {plan.run_id!r} exists with another spec ({'; '.join(refused[:8])}): give another --name, or the spec "
            f"that it has; with --resume {changeable} may change."
        )
    remark = kept_tags(f"The {plan.noun} {plan.run_id!r}", stored.get("tags", ()), plan.spec.tags)
    return replace(_repeat(plan, record, submission, [line for _, line in differences]), remark=remark)


def _repeat(plan: Plan, record: RunRecord, submission: Document, changes: list[str]) -> Submission:
    # Read first: a request that comes later is not one of those that ended the run before.
    asked = record.cancel.standing().get("id")
    state = record.state()
    if state["state"] == "succeeded" and not _goes_further(plan, record):
        return Submission("finished")
    ended = state["state"] in ENDED
    if not ended and (lease_is_live(lease_of(record)) or standing_of(record, state) == "queued"):
        return Submission("attach")
    if ended and not plan.resume:
        how = "failed" if state["state"] == "failed" else "was cancelled"
        raise InvalidInput(
            f"The {plan.noun} {plan.run_id!r} {how}: add --resume to go on from its last checkpoint, or give another --name."
        )
    if asked:
        record.cancel.withdraw(request=asked)
    if changes:
        _note_changes(record, state, changes)
    return Submission("start", resume=plan.resume, changed=bool(changes), earlier_end=state.get("finished") if ended else None)


def _goes_further(plan: Plan, record: RunRecord) -> bool:
    """Whether a sweep that succeeded, such as one that its budget ended, is to do more than it did."""
    return plan.resume and isinstance(plan.spec, SweepSpec) and goes_further(record, plan.spec)


def _note_changes(record: RunRecord, state: Document, changes: list[str]) -> None:
    attempt = int(state.get("attempt", 0))
    message = f"submitted again with changes ({'; '.join(changes)})"
    row = {"time": time.time(), "attempt": attempt, "event": "changed", "message": message}
    record.store.write(record.paths.events(record.label(attempt), f"submit-{time.time_ns()}"), rows_to_bytes([row]))


def differing(stored: Document, wanted: Document) -> list[tuple[str, str]]:
    """The keys that differ between two specs, each with a phrase that names both values."""
    return [
        (key, f"{path} is {_short(old)} there, {_short(new)} here")
        for key in sorted({*stored, *wanted})
        for path, old, new in _differences(key, stored.get(key), wanted.get(key))
    ]


def _differences(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from _differences(f"{path}.{name}", old.get(name), new.get(name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}.{index}", before, after)
    elif old != new:
        yield path, old, new


def _short(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"
