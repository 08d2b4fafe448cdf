"""Plan a sweep: every value of its space is checked against the specs of its trials before anything starts."""

import itertools
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from service.checks.sweep import check_sweep, check_sweep_id, new_sweep_id
from service.checks.train import check_stopping, user_modules
from service.cluster.base import Cluster
from service.errors import InvalidInput, UnknownName
from service.names import trial_id
from service.records.run_record import Document, RunRecord
from service.settings import Settings
from service.specs.sweep import SweepSpec
from service.storage.base import Store
from service.storage.paths import RunPaths
from service.submission.plan import Plan, resources
from service.sweeps.grouping import company_key, gathers
from service.sweeps.points import UNBOUNDED, Points

SWEEP_RETRIES = 20
"""Of a sweep's driver: a sweep takes hours, and what its driver's end costs is the steps since the trials' checkpoints (assumed)."""
MOST_TOLD = 500
"""Points of which a plan tells what trains together (assumed: each takes about a millisecond)."""


def plan_sweep(
    spec: SweepSpec,
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
    identity = check_sweep_id(run_id) if run_id is not None else new_sweep_id(stem)
    if resume:
        spec = _in_its_order(spec, RunRecord(store, identity))
    specs, dataset = check_sweep(spec, store, folder)
    for each in specs if not store.exists(RunPaths(identity).spec) else ():
        check_stopping(each)
    points = Points(spec)
    count = points.count
    first = specs[0]
    cluster.check_store(store.url)
    cluster.check_resources(first.worker_counts[-1], first.worker)
    origin = {"recipe": stem, "command": list(command), "folder": str(folder), "dataset_version": dataset["version"]}
    modules = tuple(dict.fromkeys(module for each in specs for module in user_modules(each)))
    data = tuple(dict.fromkeys(pattern for each in specs for pattern in each.package_data))
    limit = {"budget_seconds": spec.budget} if spec.budget else {}
    bounded = count < UNBOUNDED
    details = {
        "trials": count * spec.seeds if bounded else None,
        "points": count if bounded else None,
        **limit,
        "dataset": dataset,
        "resources_per_trial": resources(first),
        **_companions(spec, points, identity),
        "first_trial": points.spec(points.first()).document(),
    }
    where = (settings, store.url, cluster.description, folder)
    return Plan(identity, spec, *where, resume, origin, modules, data, SWEEP_RETRIES, details)


def _in_its_order(spec: SweepSpec, record: RunRecord) -> SweepSpec:
    """The spec with the order in which the sweep began, unless the user gives one: other `trials` would choose another."""
    if "order" in spec.model_fields_set:
        return spec
    try:
        return spec.model_copy(update={"order": record.sweep_spec().order})
    except (UnknownName, InvalidInput, ValidationError):
        # What stands there is no such sweep, which the submission says.
        return spec


def _companions(sweep: SweepSpec, points: Points, identity: str) -> Document:
    """`together`: the trials that may train together, each group by the ids that they will have; empty where that is not known before."""
    if not gathers(sweep) or sweep.search == "tpe" or points.count > MOST_TOLD:
        return {}
    groups: dict[str | None, list[str]] = {}
    ids = map(partial(trial_id, identity), itertools.count())
    for number in range(points.count):
        try:
            key = company_key(points.spec(points.point(number)))
        except InvalidInput:
            # Drawn values that make no trial together: the sweep leaves them out.
            continue
        groups.setdefault(key, []).extend(itertools.islice(ids, sweep.seeds))
    return {"together": [members for key, members in groups.items() if key is not None and len(members) > 1]}
