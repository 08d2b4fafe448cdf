"""Plan a sweep: every value of its space is checked against the specs of its trials before anything starts."""

import json
from pathlib import Path

from pydantic import ValidationError

from service.cluster.base import Cluster
from service.errors import InvalidInput, UnknownName
from service.names import LONGEST, check_run_id, new_run_id, trial_id
from service.recipes.validation import nearest
from service.settings import Settings
from service.spec_checks import check_dataset, check_names, metrics_of, user_modules
from service.specs import SEEDS_END, TrainSpec
from service.storage.base import Store
from service.storage.records import Document, RunRecord
from service.submit import Plan, resources
from service.sweep_points import UNBOUNDED, Points
from service.sweep_specs import SweepSpec
from service.together import company_key, gathers

SWEEP_RETRIES = 20
"""Of a sweep's driver: a sweep takes hours, and what its driver's end costs is the steps since the trials' checkpoints (assumed)."""
MOST_TOLD = 500
"""Points of which a plan tells what trains together (assumed: each takes about a millisecond)."""
TRIAL_DIGITS = 5
LONGEST_SWEEP_ID = LONGEST - TRIAL_DIGITS - 1
"""A trial's id is the sweep's, a hyphen and a number."""


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
    identity = check_run_id(run_id) if run_id is not None else new_run_id(stem, LONGEST_SWEEP_ID)
    if len(identity) > LONGEST_SWEEP_ID:
        raise InvalidInput(
            f"The sweep's id {identity!r} has {len(identity)} characters, but its trials add {TRIAL_DIGITS + 1} to it: "
            f"use at most {LONGEST_SWEEP_ID}."
        )
    if not spec.space and len(spec.base) == 1:
        raise InvalidInput("The sweep's space is empty: give at least one key with values, such as batch: {grid: [32, 64]}.")
    if resume:
        spec = _in_its_order(spec, RunRecord(store, identity))
    points = Points(spec)
    count = points.count
    if spec.scheduler.name == "pbt" and count < 2:
        raise InvalidInput(
            "With the scheduler pbt trials take over from each other, but the space has one: give more values, or trials: 8."
        )
    _check_seeds(spec)
    specs = [points.spec(corner) for corner in points.corners()]
    dataset = _check_all(specs, store, folder)
    _check_metric(spec, specs)
    first = specs[0]
    cluster.check_store(store.url)
    cluster.check_resources(first.worker_counts[-1], first.worker)
    origin = {"recipe": stem, "command": list(command), "folder": str(folder), "dataset_version": dataset["version"]}
    modules = tuple(dict.fromkeys(module for each in specs for module in user_modules(each)))
    limit = {"budget_seconds": spec.budget} if spec.budget else {}
    bounded = count < UNBOUNDED
    details = {
        "trials": count * spec.seeds if bounded else None,
        "points": count if bounded else None,
        **limit,
        "dataset": dataset,
        "resources_per_trial": resources(first),
        **_companions(spec, points, identity),
        "first_trial": points.spec(points.point(0)).document(),
    }
    where = (settings, store.url, cluster.description, folder)
    return Plan(identity, spec, *where, resume, origin, modules, SWEEP_RETRIES, details)


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
    for number in range(points.count):
        members = groups.setdefault(company_key(points.spec(points.point(number))), [])
        members += [trial_id(identity, number * sweep.seeds + seed) for seed in range(sweep.seeds)]
    return {"together": [members for key, members in groups.items() if key is not None and len(members) > 1]}


def _check_seeds(sweep: SweepSpec) -> None:
    """The seeds after a base's own must be seeds as well."""
    for base in sweep.base:
        last = int(base.values.get("seed", 0)) + sweep.seeds - 1
        if last >= SEEDS_END:
            raise InvalidInput(
                f"The sweep's {sweep.seeds} seeds of the base {base.name!r} end at {last}, but must be below {SEEDS_END}: "
                f"use a smaller seed, such as -s base.seed=0."
            )


def _check_all(specs: list[TrainSpec], store: Store, folder: Path) -> Document:
    """Check each spec, and each dataset once for what is asked of it; return the counts of the first one's."""
    counts: dict[str, Document] = {}
    for spec in specs:
        check_names(spec, folder)
        if spec.worker != specs[0].worker:
            raise InvalidInput(
                "The sweep's bases differ in worker, but all trials share the same processes: give each the same, "
                "or make them the same by -s base.worker.cpus=1."
            )
        asked = [spec.dataset, spec.dataset_params, spec.evaluate.validation, spec.training_examples, spec.batch, spec.task]
        key = json.dumps(asked, sort_keys=True, default=str)
        if key not in counts:
            counts[key] = check_dataset(spec, store)
    return next(iter(counts.values()))


def _check_metric(sweep: SweepSpec, specs: list[TrainSpec]) -> None:
    """Every trial must report the metric, at each evaluation where trials may be stopped."""
    for spec in specs:
        names = ["loss", *metrics_of(spec.task)]
        validated = [f"val_{name}" for name in names] if spec.evaluate.validation > 0 else []
        known = [*names, *validated, *(f"test_{name}" for name in names)]
        if sweep.metric not in known:
            hint = "; it needs evaluate.validation above 0" if sweep.metric.startswith("val_") and not validated else ""
            raise InvalidInput(
                f"No trial reports the metric {sweep.metric[:60]!r}{nearest(sweep.metric, known)}{hint}: use {', '.join(known)}."
            )
        if sweep.scheduler.name != "none" and sweep.metric not in validated:
            raise InvalidInput(
                f"The scheduler {sweep.scheduler.name} judges trials by what they report while they train: "
                f"use a metric such as val_loss, not {sweep.metric}."
            )
