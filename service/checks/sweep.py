"""Checks that every value of a sweep's space makes a trial that can run, and that a sweep's id has room for its trials' numbers."""

import json
from pathlib import Path

from service.checks.train import check_dataset, check_names, metrics_of
from service.errors import InvalidInput
from service.names import LONGEST, check_run_id, new_run_id
from service.recipes.validation import nearest
from service.records.run_record import Document
from service.specs.sweep import SweepSpec
from service.specs.train import SEEDS_END, TrainSpec
from service.storage.base import Store
from service.sweeps.points import Points

MOST_CHECKED = 500
"""Combinations of a grid (assumed: each takes about a millisecond). Of a larger one those that make no spec are left out later."""
TRIAL_DIGITS = 5
LONGEST_SWEEP_ID = LONGEST - TRIAL_DIGITS - 1
"""A trial's id is the sweep's, a hyphen and a number."""


def check_sweep_id(name: str) -> str:
    """Return a valid sweep id unchanged; raise InvalidInput."""
    if len(check_run_id(name)) > LONGEST_SWEEP_ID:
        raise InvalidInput(
            f"The sweep's id {name!r} has {len(name)} characters, but its trials add {TRIAL_DIGITS + 1} to it: "
            f"use at most {LONGEST_SWEEP_ID}."
        )
    return name


def new_sweep_id(stem: str) -> str:
    """Make a sweep id that has room for its trials' numbers."""
    return new_run_id(stem, LONGEST_SWEEP_ID)


def check_sweep(spec: SweepSpec, store: Store, folder: Path) -> tuple[list[TrainSpec], Document]:
    """Check the trials at each corner of the space; return their specs, and the counts of the first one's dataset.

    Raise InvalidInput or UnknownName.
    """
    if not spec.space and len(spec.base) == 1:
        raise InvalidInput("The sweep's space is empty: give at least one key with values, such as batch: {grid: [32, 64]}.")
    points = Points(spec)
    count = points.count  # Raises for points without end, whatever the scheduler.
    if spec.scheduler.name == "pbt" and count < 2:
        raise InvalidInput(
            "With the scheduler pbt trials copy each other, but the space has one: give more values, or trials: 8."
        )
    _check_seeds(spec)
    specs = [points.spec(corner) for corner in points.corners()]
    drawn = any(key not in spec.grids and each.expression is None for key, each in spec.space.items())
    if not drawn and count <= MOST_CHECKED:
        _check_combinations(points)
    dataset = _check_all(specs, store, folder)
    _check_metric(spec, specs)
    return specs, dataset


def _check_combinations(points: Points) -> None:
    """Values that are good each for itself may contradict each other."""
    for number in range(points.count):
        point = points.point(number)
        try:
            points.spec(point)
        except InvalidInput as error:
            values = ", ".join(f"{key} {value}" for key, value in point.params.items())
            raise InvalidInput(f"The values {values[:200]} make no trial together: {error}") from error


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
        evaluated = [*names, *spec.metrics]
        validated = [f"val_{name}" for name in evaluated] if spec.evaluate.validation > 0 else []
        known = [*names, *validated, *(f"test_{name}" for name in evaluated)]
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
