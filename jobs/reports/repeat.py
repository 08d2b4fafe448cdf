"""The commands that ask for the same run again."""

import json
import shlex

import yaml

from jobs.reports.facts import RunFacts
from service import recipes
from service.errors import DelaylineError
from service.specs import TrainSpec
from service.storage.records import Document

MOST_CHANGES = 6
"""On a command line; with more a file is easier to read (assumed)."""


def spec_text(facts: RunFacts) -> str:
    """The spec as a YAML file, with the very version of the dataset."""
    spec = {**facts.spec, "dataset": pinned_dataset(facts)}
    return str(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)).rstrip()


def pinned_dataset(facts: RunFacts) -> str:
    """`name@version`; only the name for one that ships with Delayline."""
    dataset, version = str(facts.spec["dataset"]), facts.submission.get("dataset_version")
    return dataset if "@" in dataset or not version or facts.data.get("embedded") else f"{dataset}@{version}"


def repeat_command(facts: RunFacts) -> str:
    """By the recipe and the keys that differ from it, where that gives the very spec; else by the file of `spec_text`."""
    name = facts.submission.get("recipe")
    wanted = {**facts.spec, "dataset": pinned_dataset(facts)}
    if name in recipes.names():
        changes = _changes(recipes.describe(str(name))["spec"], wanted)
        if changes is not None:
            words = ["delayline", "train", str(name), *(word for change in changes for word in ("-s", change))]
            return shlex.join([*words, "--name", f"{facts.run_id}-again"])
    return shlex.join(["delayline", "train", f"{facts.run_id}.yaml", "--name", f"{facts.run_id}-again"])


def _changes(recipe: Document, wanted: Document) -> list[str] | None:
    """`KEY=VALUE` for each key in which the recipe's spec differs; None where they cannot be said so."""
    try:
        base = TrainSpec.model_validate(recipe).document()
        changes = [f"{key}={json.dumps(wanted[key])}" for key in wanted if wanted[key] != base.get(key)]
        made = recipes.change(TrainSpec.model_validate(recipe), changes)
    except (DelaylineError, ValueError):
        return None
    return changes if made == TrainSpec.model_validate(wanted) and len(changes) <= MOST_CHANGES else None


def submitted_command(facts: RunFacts) -> str:
    """What the run was submitted with."""
    return shlex.join(str(word) for word in facts.submission.get("command") or [])
