"""A run gives up its weights for another trial's and goes on with other values: how population based training exploits and explores."""

import secrets
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from jobs.checkpoints import CheckpointStore, Snapshot
from jobs.progress import EventLog
from service.errors import Damaged, NotFound
from service.specs import TrainSpec
from service.storage.metrics import shared_prefix
from service.storage.records import Document, RunRecord

PATIENCE = 10.0
"""Seconds for a checkpoint that is on its way to the store (assumed: longer than a write of one takes)."""
LOOK_SECONDS = 0.2


def take_over(record: RunRecord, mutation: Document) -> int | None:
    """Put another run's checkpoint into this one, which nobody trains now, and change its spec; return the checkpoint's step.

    That is None where the other run has none left, and this one keeps its own.
    `mutation`: its `number` among the run's, from 1; `from`, the other run; `step`, of the checkpoint; `params` by key, and the
    whole `spec`. What was done already is not done again; of a process that was killed in between it is all done once more.
    """
    submission = record.submission()
    if submission.get("mutations", 0) >= mutation["number"]:
        found: int | None = submission["taken"]
        return found
    spec = TrainSpec.model_validate(mutation["spec"])
    label = _label(record)
    own = CheckpointStore(record, spec.checkpoint, label)
    other = RunRecord(record.store, mutation["from"])
    donor = CheckpointStore(other, spec.checkpoint)
    taken = _newest_from(donor, other, mutation["step"])
    snapshot = taken or own.load_newest(lambda step, why: None)
    if snapshot is not None:
        rows = [row for row in record.history() if int(row["step"]) <= snapshot.step]
        # What the run had reached beyond that is no longer its own.
        own.sealed = lambda _: shared_prefix(record.store, record.paths, record.nonce, rows)
        own.save(_with_rate(replace(snapshot, history=rows), spec), drop_later=True)
        record.write_history(rows, label)
    step = taken.step if taken else None
    # Last: from here on it counts as done.
    origin = {name: value for name, value in submission.items() if name not in ("format", "kind", "spec")}
    record.replace_spec(spec, {**origin, "params": mutation["params"], "mutations": mutation["number"], "taken": step})
    _tell(record, mutation, step, submission.get("params") or {})
    return step


def _newest_from(donor: CheckpointStore, record: RunRecord, step: int) -> Snapshot | None:
    """The checkpoint of `step`; once that is pruned the next one that is not the run's end, else the one before; None without any."""
    end, deadline = record.progress().get("steps"), time.monotonic() + PATIENCE
    while not (there := [int(each["step"]) for each in record.checkpoints()]) or there[-1] < step:
        if time.monotonic() > deadline:
            break
        time.sleep(LOOK_SECONDS)
    steps = [each for each in there if each != end]
    for found in (*(each for each in steps if each >= step), *(each for each in reversed(steps) if each < step)):
        try:
            return donor.load(found)
        except (Damaged, NotFound):
            continue
    return None


def _with_rate(snapshot: Snapshot, spec: TrainSpec) -> Snapshot:
    """The snapshot with the spec's learning rate; that of a schedule is no variable, and all else an optimizer is made with."""
    rate = spec.optimizer_arguments.get("learning_rate")
    if not isinstance(rate, int | float):
        return snapshot
    changed = {
        name: np.full_like(array, rate) if name.endswith("/learning_rate") else array
        for name, array in snapshot.optimizer.items()
    }
    return replace(snapshot, optimizer=changed)


def _label(record: RunRecord) -> str:
    """What this process writes belongs to no attempt yet, and a process before it may have been killed in the midst of the same."""
    return f"{record.label(_next_attempt(record))}-population-{secrets.token_hex(4)}"


def _next_attempt(record: RunRecord) -> int:
    return len(record.state()["attempts"]) + 1


def _tell(record: RunRecord, mutation: Document, step: int | None, before: Document) -> None:
    """Note it among the run's events."""
    donor = mutation["from"]
    kept = f"keeps its weights, for {donor} has no checkpoint left"
    where = kept if step is None else f"took over from {donor} at step {step}"
    changes = ", ".join(_changes(before, mutation["params"])) or "with the same values"
    log = EventLog(record, _next_attempt(record), "population")
    log.add("took over", f"{where}; {changes}", **{"from": donor, "step": step, "params": mutation["params"]})
    log.flush()


def _changes(before: Document, after: Document) -> Iterator[str]:
    for key, value in after.items():
        if before.get(key) != value:
            yield f"{key} {_short(before.get(key))} -> {_short(value)}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
