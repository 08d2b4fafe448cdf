"""Delete runs that are over: which, how large, and in an order that leaves nothing half there.

The order, and why. `spec.json` is what makes a run: an id is claimed by writing it, and every reader begins with it. Were it
deleted first, an interruption would leave checkpoints and results that no list shows, and the next run of that id would go on
from them. Were it deleted last and nothing else done, an interruption would leave a run that looks whole but lacks its model.
So it is replaced first, by one conditional write, with a mark that says the run is deleted: from then on no command shows it
and nobody can claim or resume its id. Then all else goes, `state.json` before the rest, because lists read it; the spec goes
last. Wherever this stops, the run is gone for its users, and the next prune deletes what is left.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from service.errors import Conflict, Damaged, InvalidInput, NotFound, StoreError
from service.names import is_run_id
from service.records.answers import DamagedRow, RunRow
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.records.schemas import RunState
from service.records.submissions import deletion_mark, is_deleted
from service.records.user_package import unused
from service.runs import list_runs
from service.storage.base import ObjectInfo, Store, Unfinished
from service.storage.paths import RUNS, RunPaths

PRUNABLE = tuple(state.value for state in RunState if state.is_ended or state in (RunState.LOST, RunState.DAMAGED))
DELETED = "deleted"
"""Stands for the state of a run whose deletion began before and did not end."""
STILL_SECONDS = 600.0
"""A damaged run may be one of another version of Delayline: it is touched once nothing of it changed for so long (assumed)."""
LISTERS = 8
UPLOAD_SECONDS = 24 * 3600.0
"""An upload that began so long ago is a killed writer's (assumed: none takes a day)."""
_IN_PARTS = ("model.safetensors", "optimizer.safetensors", "space.safetensors", "averaged.safetensors", "callbacks.safetensors")


@dataclass(frozen=True)
class Candidate:
    """A run that is to be deleted. `last`: when it ended, or else last changed, in seconds since 1970 by the store's clock."""

    run_id: str
    state: str
    model: str | None
    dataset: str | None
    last: float
    objects: int
    bytes: int


def choose(
    store: Store,
    states: Sequence[str] = (),
    older_than: float | None = None,
    keep_last: int | None = None,
    now: float | None = None,
) -> list[Candidate]:
    """The runs to delete, newest first, and those whose deletion began before; nothing is written.

    `states`: of these alone; none means every state but `damaged`. `keep_last`: the newest N of these states stay. `older_than`:
    seconds since the run's end, or for a lost or damaged one since its last change. Raise InvalidInput without any of them.
    """
    for state in states:
        if state not in PRUNABLE:
            raise InvalidInput(f"--state {state[:40]!r} is not one that can be deleted: use {', '.join(PRUNABLE)}.")
    if not states and older_than is None and keep_last is None:
        raise InvalidInput(
            "Nothing says which runs are to go: give --older-than 7d, --state failed or --keep-last N, or several of them."
        )
    moment = store.now() if now is None else now
    rows = list_runs(store)
    there = {row.id for row in rows}
    # A trial goes with its sweep, and only with it.
    chosen = [row for row in rows if row.state in (states or PRUNABLE[:-1]) and row.sweep not in there][keep_last or 0 :]
    sweeps = {row.id for row in chosen if row.kind == "sweep"}
    chosen += [row for row in rows if row.sweep in sweeps]
    begun = _begun(store)
    with ThreadPoolExecutor(LISTERS) as pool:
        found = list(pool.map(lambda row: _candidate(store, row), [row for row in chosen if row.id not in begun]))
        found += pool.map(lambda name: _half_deleted(store, name), begun)
    return [each for each in found if _is_old(each, older_than, moment)]


def _candidate(store: Store, row: RunRow | DamagedRow) -> Candidate:
    objects = list(store.objects(RunPaths(row.id).root))
    # When it ended by the store's clock: what stands in its state is by its driver's.
    state, ended = RunPaths(row.id).state, row.finished is not None
    last = max((info.modified for info in objects if info.key == state or not ended), default=0.0)
    return Candidate(row.id, row.state, row.model, row.dataset, last, len(objects), sum(info.size for info in objects))


def _half_deleted(store: Store, run_id: str) -> Candidate:
    objects = list(store.objects(RunPaths(run_id).root))
    last = max((info.modified for info in objects), default=0.0)
    return Candidate(run_id, DELETED, None, None, last, len(objects), sum(info.size for info in objects))


def _is_old(candidate: Candidate, older_than: float | None, now: float) -> bool:
    if candidate.state == DELETED:
        return True
    least = max(older_than or 0.0, STILL_SECONDS) if candidate.state == RunState.DAMAGED else older_than or 0.0
    # A server may tell its time in whole seconds, and that of an object more precisely.
    return least <= 0 or now - candidate.last >= least


def _begun(store: Store) -> list[str]:
    """The runs whose deletion began before."""
    paths = [RunPaths(name) for name in store.list_folders(RUNS) if is_run_id(name)]
    specs = store.read_many([path.spec for path in paths])
    return [path.run_id for path in paths if is_deleted(specs.get(path.spec, b""))]


def old_uploads(store: Store) -> list[Unfinished]:
    """What killed writers left in the store more than a day ago, by the store's clock."""
    return [each for each in store.unfinished(_large_keys(store)) if each.age >= UPLOAD_SECONDS]


def old_packages(store: Store) -> list[ObjectInfo]:
    """The users' code that no run refers to any more, unless it was sent within a day."""
    return unused(store, store.now())


def _large_keys(store: Store) -> Iterator[str]:
    """The keys of runs that are there, which are written in parts where they are large: asked for by a server that lists by keys alone."""
    for name in store.list_folders(RUNS):
        if is_run_id(name):
            paths = RunPaths(name)
            yield paths.model
            for folder in store.list_folders(paths.checkpoints):
                yield from (f"{paths.checkpoints}{folder}/{file}" for file in _IN_PARTS)


def delete(store: Store, run_id: str) -> None:
    """Delete a run that nobody drives; raise InvalidInput, having changed nothing, when somebody does or it changed just now."""
    record = RunRecord(store, run_id)
    try:
        spec, version = store.read_versioned(record.paths.spec)
    except NotFound:
        return
    lease = _taken(record)
    try:
        if not is_deleted(spec):
            store.write(record.paths.spec, deletion_mark(), if_version=version)
        _delete_all_but_spec(record, lease)
    except Conflict:
        raise InvalidInput(f"The run {run_id!r} was changed meanwhile: it stays.") from None
    finally:
        if lease is not None:
            lease.release()
    # From here on the id is free again.
    store.delete(record.paths.lease)
    store.delete(record.paths.spec)


def _taken(record: RunRecord) -> Lease | None:
    """The run's lease, held by this process: no driver can begin meanwhile. None where the lease is damaged."""
    lease = Lease(record)
    try:
        held = lease.acquire()
    except (Damaged, KeyError, TypeError):
        return None
    if not held:
        raise InvalidInput(f"The run {record.run_id!r} lives, somebody drives it: it stays.")
    return lease


def _delete_all_but_spec(record: RunRecord, lease: Lease | None) -> None:
    store, paths = record.store, record.paths
    kept = {paths.spec, paths.lease}
    store.delete(paths.state)
    # What a worker that was still at it wrote meanwhile goes in the next round.
    for _ in range(3):
        rest = [info.key for info in store.objects(paths.root) if info.key not in kept]
        if not rest:
            return
        for folder in sorted({key[len(paths.root) :].partition("/")[0] for key in rest if "/" in key[len(paths.root) :]}):
            store.delete_prefix(f"{paths.root}{folder}/")
            if lease is not None:
                lease.renew()
        for key in rest:
            if "/" not in key[len(paths.root) :]:
                store.delete(key)
    raise StoreError(
        f"The run {record.run_id!r} is written to while it is deleted: see who does, and call `delayline runs prune` again."
    )
