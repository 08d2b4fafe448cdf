"""The commands that ask for the same run again."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from jobs.reports.facts import RunFacts
from service import recipes
from service.errors import DelaylineError
from service.records.run_record import Document
from service.specs.train import TrainSpec

MOST_CHANGES = 6
"""On a command line; with more a file is easier to read (assumed)."""


def spec_text(facts: RunFacts) -> str:
    """The spec as a YAML file, with the very version of the dataset."""
    spec = {**facts.spec, "dataset": pinned_dataset(facts)}
    return str(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)).rstrip()


def pinned_dataset(facts: RunFacts) -> str:
    """`name@version`; only the name for one that ships with Delayline."""
    dataset, version = str(facts.spec["dataset"]), facts.submission.dataset_version
    return dataset if "@" in dataset or not version or facts.data.get("embedded") else f"{dataset}@{version}"


def repeat_command(facts: RunFacts) -> str:
    """By the recipe and the keys that differ from it, where that gives the very spec; else by the file of `spec_text`."""
    name = str(facts.submission.recipe)
    wanted = {**facts.spec, "dataset": pinned_dataset(facts)}
    changes = _changes(name, wanted) if name in recipes.names() else None
    words = [f"{facts.run_id}.yaml"] if changes is None else [name, *(word for change in changes for word in ("-s", change))]
    return shlex.join(["delayline", "train", *words, "--name", f"{facts.run_id}-again"])


def _changes(name: str, wanted: Document) -> list[str] | None:
    """`KEY=VALUE` for each key in which the recipe differs, dotted where that will do; None where they cannot be said so."""
    try:
        base = recipes.resolve(name, [], None, Path())[0].document()
    except DelaylineError:
        # The recipe of the sweep that the run is a trial of.
        return None
    for dotted in (True, False):
        changes = [f"{key}={_written(value)}" for key, value in _differences("", base, wanted, dotted)]
        try:
            made, _ = recipes.resolve(name, changes, None, Path())
            if made == TrainSpec.model_validate(wanted) and len(changes) <= MOST_CHANGES:
                return changes
        except (DelaylineError, ValueError):
            continue
    return None


def _differences(path: str, base: Document, wanted: Document, dotted: bool) -> Iterator[tuple[str, Any]]:
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict) and dotted:
            yield from _differences(f"{path}{key}.", base[key], value, dotted)
        elif base.get(key) != value:
            yield f"{path}{key}", value


def _written(value: Any) -> str:
    """As YAML on one line: JSON, but words without quotation marks."""
    return value if isinstance(value, str) and yaml.safe_load(value) == value else json.dumps(value)


def submitted_command(facts: RunFacts) -> str:
    """What the run was submitted with."""
    return shlex.join(facts.submission.command or ())
