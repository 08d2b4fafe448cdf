"""Plan a run, then submit it: nothing is written or started before the plan stands, and a repeat does no harm."""

import ast
import importlib.machinery
import importlib.util
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.cluster.base import Cluster, Job
from service.cluster.local_ray import driver_job
from service.datasets import find_dataset
from service.errors import InvalidInput, UnknownName
from service.names import check_run_id, new_run_id
from service.recipes.validation import nearest
from service.settings import Settings
from service.specs import TrainSpec
from service.storage.base import Store
from service.storage.records import ENDED, Document, RunRecord, lease_is_live, rows_to_bytes
from service.storage.standing import standing
from service.weights import origin_of_weights

_MAKERS = {"models": "build", "tasks": "make"}
"""The function that makes a file a model or a task."""
CHANGEABLE = ("workers", "worker", "retries", "time_limit", "input")
"""Keys that a resumed run may change: the run is the same with other values."""


@dataclass(frozen=True)
class Plan:
    """What will happen; made without a write to the store."""

    run_id: str
    spec: TrainSpec
    settings: Settings
    store_url: str
    cluster: str
    folder: Path
    resume: bool
    origin: Document
    """How the run was asked for: `recipe`, `command`, `folder`, `dataset_version`, `init_from`."""
    dataset: Document
    """`name`, `version`, and the numbers of `training`, `validation` and `test` examples."""

    def job(self, resume: bool, changed: bool = False) -> Job:
        """The driver's job; `changed`: this plan's spec differs from the stored one."""
        changes = json.dumps(self.spec.document()) if changed else None
        job = driver_job(self.settings, self.run_id, self.store_url, self.folder, resume, changes)
        return replace(job, modules=user_modules(self.spec))

    def document(self) -> Document:
        """The plan for people and for `--json`."""
        worker, counts = self.spec.worker, self.spec.worker_counts
        return {
            "id": self.run_id,
            "kind": "train",
            "spec": self.spec.model_dump(mode="json") | {"workers": self.spec.document()["workers"]},
            "dataset": self.dataset,
            **({"init_from": self.origin["init_from"]} if "init_from" in self.origin else {}),
            "resources": {
                "workers": sorted(counts),
                "cpus_per_worker": worker.cpus,
                "gpus_per_worker": worker.gpus,
                "cpus": max(counts) * worker.cpus,
                "gpus": max(counts) * worker.gpus,
                **({"memory": max(counts) * worker.memory} if worker.memory else {}),
            },
            "cluster": self.cluster,
            "store": self.store_url,
            "folder": str(self.folder),
            "command": list(self.job(self.resume).argv),
        }


@dataclass(frozen=True)
class Submission:
    """What became of a plan.

    `action`: `start` (a driver is to be started), `attach` (somebody drives the run) or `finished` (it has its result).
    """

    action: str
    resume: bool = False
    """The driver must be told to go on with a run that failed or was cancelled."""
    changed: bool = False
    """The plan's spec replaces the stored one for this submission."""
    earlier_end: float | None = None
    """When the run ended before, in seconds since 1970."""


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
    dataset = check_dataset(spec, store)
    cluster.check_store(store.url)
    cluster.check_resources(spec.worker_counts[-1], spec.worker)
    origin = {"recipe": stem, "command": list(command), "folder": str(folder), "dataset_version": dataset["version"]}
    origin |= origin_of_weights(store, spec, identity)
    return Plan(identity, spec, settings, store.url, cluster.description, folder, resume, origin, dataset)


def registered(kind: str) -> dict[str, tuple[str, ...]]:
    """The `models` or `tasks` that ship with Delayline, each with the parameters that its function takes by name.

    One file each, read and not imported: that would import TensorFlow.
    """
    package = importlib.util.find_spec("jobs")
    folders = (package.submodule_search_locations if package else None) or []
    found = {}
    for path in sorted(path for folder in folders for path in Path(folder, kind).glob("[!_]*.py")):
        for node in ast.parse(path.read_bytes()).body:
            if isinstance(node, ast.FunctionDef) and node.name == _MAKERS[kind]:
                found[path.stem.replace("_", "-")] = tuple(argument.arg for argument in node.args.kwonlyargs)
    return found


def check_names(spec: TrainSpec, folder: Path) -> None:
    """The model, the task and the modules of the user's own must be there; none is imported."""
    if spec.user_module is None:
        parameters = _among(registered("models"), spec.model, "model", ", or your own as my_package.nets:build")
        for name in spec.model_params:
            if name not in parameters:
                known = ", ".join(parameters) or "none"
                raise InvalidInput(
                    f"The model {spec.model!r} has no parameter {name[:80]!r}{nearest(name, parameters)}; it takes {known}."
                )
    _among(registered("tasks"), spec.task, "task")
    for module in user_modules(spec):
        if not _module_exists(module, folder):
            raise InvalidInput(
                f"The module {module[:80]!r} of the spec is not found from {folder}: start the command in the folder "
                f"that holds {module.split('.')[0][:80]}, or install it."
            )


def user_modules(spec: TrainSpec) -> tuple[str, ...]:
    """The modules of the user's own that the spec names, each once."""
    references = [spec.model, *(callback.name for callback in spec.callbacks)]
    return tuple(dict.fromkeys(reference.partition(":")[0] for reference in references if ":" in reference))


def _among(known: dict[str, tuple[str, ...]], name: str, what: str, own: str = "") -> tuple[str, ...]:
    if name.replace("_", "-") not in known:
        raise UnknownName(f"There is no {what} {name[:80]!r}{nearest(name, known)}; use {' or '.join(known)}{own}.")
    return known[name.replace("_", "-")]


def _module_exists(name: str, folder: Path) -> bool:
    path: Any = [str(folder), *sys.path]
    for part in name.split("."):
        found = importlib.machinery.PathFinder.find_spec(part, path)
        if found is None:
            # An editable installation has a finder of its own; at the top level it imports nothing.
            return "." not in name and importlib.util.find_spec(name) is not None
        path = found.submodule_search_locations
    return True


def check_dataset(spec: TrainSpec, store: Store) -> Document:
    """The dataset must exist and fill a batch after the validation share is held out."""
    dataset = find_dataset(store, spec.dataset)
    examples = dataset.splits["train"]
    share = spec.evaluate.validation
    held_out = round(examples * share)
    training = examples - held_out
    if share > 0 and held_out == 0:
        raise InvalidInput(
            f"evaluate.validation={share:g} of {examples} examples is none: use 0, or at least {1 / max(examples, 1):.2g}."
        )
    if spec.training_examples is not None:
        if spec.training_examples > training:
            raise InvalidInput(
                f"training_examples={spec.training_examples} is more than the {training} training examples of {spec.dataset} "
                f"(of {examples}, {held_out} are held out for validation): use at most {training}, or leave it out for all."
            )
        training = spec.training_examples
    if spec.batch > training:
        raise InvalidInput(
            f"A batch of {spec.batch} is larger than the {training} training examples of {spec.dataset} "
            f"(of {examples}, {held_out} are held out for validation): use -s batch={max(training, 1)} or less."
        )
    counts = {"training": training, "validation": held_out, "test": dataset.splits.get("test", 0)}
    return {"name": spec.dataset.partition("@")[0], "version": dataset.version, **counts}


def submit(plan: Plan, store: Store) -> Submission:
    """Claim the run's id, or find out how the run with this id goes on.

    Raise InvalidInput when the id stands for another spec, or for a run that failed or was cancelled without `resume`.
    """
    record = RunRecord(store, plan.run_id)
    if not plan.resume and record.claim(plan.spec, plan.origin):
        return Submission("start")
    submission = record.submission()
    differences = differing(_as_of_today(submission["spec"]), plan.spec.document())
    refused = [line for key, line in differences if not (plan.resume and key in CHANGEABLE)]
    if refused:
        changeable = ", ".join(CHANGEABLE)
        raise InvalidInput(
            f"The run {plan.run_id!r} exists with another spec ({'; '.join(refused[:8])}): give another --name, or the spec "
            f"that it has; with --resume {changeable} may change."
        )
    return _repeat(plan, record, submission, [line for _, line in differences])


def _repeat(plan: Plan, record: RunRecord, submission: Document, changes: list[str]) -> Submission:
    state, lease = record.state(), record.lease()
    if state["state"] == "succeeded":
        return Submission("finished")
    ended = state["state"] in ENDED
    if not ended and (lease_is_live(lease) or standing(submission, state, lease) == "queued"):
        return Submission("attach")
    if ended and not plan.resume:
        how = "failed" if state["state"] == "failed" else "was cancelled"
        raise InvalidInput(
            f"The run {plan.run_id!r} {how}: add --resume to go on from its last checkpoint, or give another --name."
        )
    record.clear_cancel()
    if changes:
        _note_changes(record, state, changes)
    return Submission("start", resume=plan.resume, changed=bool(changes), earlier_end=state.get("finished") if ended else None)


def _note_changes(record: RunRecord, state: Document, changes: list[str]) -> None:
    attempt = int(state.get("attempt", 0))
    message = f"submitted again with changes ({'; '.join(changes)})"
    row = {"time": time.time(), "attempt": attempt, "event": "changed", "message": message}
    record.store.write(record.paths.events(attempt, f"submit-{time.time_ns()}"), rows_to_bytes([row]))


def _as_of_today(stored: Document) -> Document:
    """A stored spec with the keys that this version added, at their defaults."""
    try:
        return TrainSpec.model_validate(stored).document()
    except ValidationError:
        return stored


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
    elif old != new:
        yield path, old, new


def _short(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"
