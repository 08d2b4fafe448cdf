"""Plan a sweep: every value of its space is checked against the specs of its trials before anything starts."""

import itertools
from functools import partial

from pydantic import ValidationError

from service.checks.sweep import check_sweep, check_sweep_id, new_sweep_id
from service.checks.train import check_stopping, user_modules
from service.cluster.base import Cluster
from service.errors import InvalidInput, UnknownName
from service.names import trial_id
from service.records.run_record import Document, RunRecord
from service.settings import Settings
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.storage.paths import RunPaths
from service.submission.plan import Plan, Request, resources
from service.sweeps.grouping import gathers, group_key
from service.sweeps.points import UNBOUNDED, Points

SWEEP_RETRIES = 20
"""Of a sweep's driver: a sweep takes hours, and what its driver's end costs is the steps since the trials' checkpoints (assumed)."""
SIDE_BY_SIDE = 4
"""Trials for which a cluster that is made for a sweep has room where its spec says `parallel: auto` (assumed)."""
MOST_TOLD = 500
"""Points for which a plan lists what trains together (assumed: each takes about a millisecond)."""


def plan_sweep(request: Request, settings: Settings, store: Store, cluster: Cluster) -> Plan:
    """Check all of a sweep that can be checked before anything starts; raise InvalidInput or UnknownName."""
    spec = request.spec
    assert isinstance(spec, SweepSpec)
    identity = check_sweep_id(request.run_id) if request.run_id is not None else new_sweep_id(request.stem)
    if request.resume:
        spec = _in_its_order(spec, RunRecord(store, identity))
    specs, dataset = check_sweep(spec, store, request.folder)
    for each in specs if not store.exists(RunPaths(identity).spec) else ():
        check_stopping(each)
    cluster.check_store(store.url)
    cluster.check_resources(specs[0].worker_counts[-1], specs[0].worker)
    return Plan(
        run_id=identity,
        spec=spec,
        settings=settings,
        store_url=store.url,
        cluster=cluster.description,
        folder=request.folder,
        resume=request.resume,
        origin=request.origin(dataset["version"]).changed(queued_seconds=cluster.queued_seconds),
        modules=tuple(dict.fromkeys(module for each in specs for module in user_modules(each))),
        data=tuple(dict.fromkeys(pattern for each in specs for pattern in each.package_data)),
        retries=SWEEP_RETRIES,
        workers=_workers(spec, specs[0]),
        worker=specs[0].worker,
        details=_details(spec, identity, specs[0], dataset),
    )


def _workers(spec: SweepSpec, trial: TrainSpec) -> tuple[int, int]:
    """The workers of one trial at the fewest, and of all that train side by side."""
    fewest = min(trial.worker_counts)
    return fewest, fewest * min(spec.parallel or SIDE_BY_SIDE, spec.trials or MOST_TOLD)


def _details(spec: SweepSpec, identity: str, first: TrainSpec, dataset: Document) -> Document:
    """What is shown of the plan beside the spec; `first` is of the trial at the first corner."""
    points = Points(spec)
    bounded = points.count < UNBOUNDED
    return {
        "trials": points.count * spec.seeds if bounded else None,
        "points": points.count if bounded else None,
        **({"budget_seconds": spec.budget} if spec.budget else {}),
        "dataset": dataset,
        "resources_per_trial": resources(first),
        **_groups(spec, points, identity),
        "first_trial": points.spec(points.first()).document(),
    }


def _in_its_order(spec: SweepSpec, record: RunRecord) -> SweepSpec:
    """The spec with the order in which the sweep began, unless the user gives one: other `trials` would choose another."""
    if "order" in spec.model_fields_set:
        return spec
    try:
        return spec.model_copy(update={"order": record.sweep_spec().order})
    except (UnknownName, InvalidInput, ValidationError):
        # The id is not such a sweep's: the submission refuses it.
        return spec


def _groups(sweep: SweepSpec, points: Points, identity: str) -> Document:
    """`together`: the trials that may train together, each group by the ids that they will have; empty where that is not known before."""
    if not gathers(sweep) or sweep.search == "tpe" or points.count > MOST_TOLD:
        return {}
    groups: dict[str | None, list[str]] = {}
    ids = map(partial(trial_id, identity), itertools.count())
    for number in range(points.count):
        try:
            key = group_key(points.spec(points.point(number)))
        except InvalidInput:
            # Drawn values that contradict each other: the sweep skips them.
            continue
        groups.setdefault(key, []).extend(itertools.islice(ids, sweep.seeds))
    return {"together": [members for key, members in groups.items() if key is not None and len(members) > 1]}
