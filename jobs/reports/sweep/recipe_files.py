"""The spec of a sweep's best trial, and of the sweep, as files to begin from, without what is the default anyway."""

from typing import Any

import yaml

from jobs.reports.facts import RunFacts
from jobs.reports.repeat import pinned_dataset
from service.recipes.validation import validate
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec


def best_recipe(trial: RunFacts) -> str:
    """YAML of the trial's spec with the very version of its dataset; `delayline train` makes the same spec of it."""
    return _written(_in_short(TrainSpec.model_validate({**trial.spec, "dataset": pinned_dataset(trial)})))


def sweep_recipe(sweep: SweepSpec) -> str:
    """YAML of the sweep's spec; `delayline sweep` makes the same spec of it."""
    bases = [{"name": base.name, **_in_short(validate(base.values))} for base in sweep.base]
    whole, kept = sweep.document(), sweep.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    rest = {name: whole["workers"] if name == "workers" else value for name, value in kept.items() if name != "base"}
    return _written({"base": bases, **rest})


def _in_short(spec: TrainSpec) -> dict[str, Any]:
    whole, kept = spec.document(), spec.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    short = {name: whole["workers"] if name == "workers" else value for name, value in kept.items()}
    # What cannot be said in short, as a key whose default depends on another one, is given in full.
    return short if validate(short) == spec else whole


def _written(values: dict[str, Any]) -> str:
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)).rstrip()
