"""Runs as anyone can read them from the store: show, list, watch, logs, cancel."""

import contextlib

from service.errors import Damaged, NotFound
from service.names import is_run_id
from service.records.lease import lease_in
from service.records.remarks import remarks_among
from service.records.run_record import Document, RunRecord, from_bytes, is_deleted, queued, run_summary
from service.records.schemas import ENDED, ProgressDocument, RunState, StateDocument, SubmissionDocument, Summary
from service.records.standing import standing, standing_of
from service.records.stored_document import StoredDocument, fitted
from service.storage.base import Seen, Store
from service.storage.paths import RUNS, RunPaths
from service.sweeps.trials import sweep_document

SILENT_SECONDS = 30.0
"""Rank 0 says every ten seconds how it stands: where it did not for so long, all its threads stand still (assumed: three times)."""


def show(store: Store, run_id: str) -> Document:
    """All that is known of a run; raise UnknownName."""
    record = RunRecord(store, run_id)
    submission, state, progress = record.submission(), record.state(), record.progress()
    history = record.history()
    ended, stands = state.is_ended, standing_of(record, state)
    progress = {**progress, "idle_seconds": None} if ended else with_silence(record, stands, state, progress)
    events = record.events()
    return {
        "id": run_id,
        "kind": submission.kind,
        "state": stands,
        "note": record.note(),
        "spec": submission.spec,
        "recipe": submission.recipe,
        "command": submission.command,
        "folder": submission.folder,
        "submitted": submission.submitted,
        "started": state.started,
        "finished": state.finished,
        **_position(progress, history),
        "waiting": None if ended or state.waiting is None else state.waiting.document(),
        "metrics": (state.metrics if ended else None) or progress.get("metrics") or {},
        "history": history,
        "attempts": _attempts(state, progress),
        "checkpoints": record.checkpoints(),
        "remarks": remarks_among(events),
        "events": events,
        "error": state.error.document() if state.error else None,
        "exit_code": state.exit_code,
        "store": store.url,
        **({"sweep": submission.sweep} if submission.sweep is not None else {}),
        **(sweep_document(record, submission.spec) if submission.is_sweep else {}),
    }


def with_silence(record: RunRecord, stands: RunState, state: StateDocument, progress: Document) -> Document:
    """The progress with for how long there was no step, also where rank 0 cannot say it: a thread of it may hold Python's lock."""
    if stands != RunState.RUNNING or "trials" in progress or progress.get("attempt") != state.attempt:
        return progress
    with contextlib.suppress(NotFound):
        silent = record.store.read_aged(record.paths.progress).age
        if silent >= SILENT_SECONDS:
            return {**progress, "idle_seconds": round((progress.get("idle_seconds") or 0) + silent)}
    return progress


def _position(progress: Document, history: list[Document]) -> Document:
    """Where the training stands; from the last row of metrics before rank 0 wrote any progress."""
    last = history[-1] if history else {}
    return {
        "phase": progress.get("phase"),
        "epoch": progress.get("epoch", last.get("epoch", 0)),
        "epochs": progress.get("epochs"),
        "step": progress.get("step", last.get("step", 0)),
        "steps": progress.get("steps"),
        "examples_per_second": progress.get("examples_per_second"),
        "eta_seconds": progress.get("eta_seconds"),
        "idle_seconds": progress.get("idle_seconds"),
    }


def _attempts(state: StateDocument, progress: Document) -> list[Document]:
    """The attempts; the current one's workers are known to rank 0 before the driver notes them."""
    attempts = [{"workers": [], **attempt.document()} for attempt in state.attempts]
    for attempt in attempts:
        if not attempt["workers"] and attempt["number"] == progress.get("attempt"):
            attempt["workers"] = progress.get("workers") or []
    return attempts


def list_runs(store: Store) -> list[Document]:
    """A short row for each run, newest first; one whose documents are damaged is listed as such. A trial has its sweep's tags too."""
    paths = [RunPaths(name) for name in store.list_folders(RUNS) if is_run_id(name)]
    documents = store.read_many([path.state for path in paths])
    # Of a run that has ended its driver's document says all: a long list costs one request for each.
    rest = [path for path in paths if not _says_all(documents.get(path.state))]
    seen = store.read_many_aged([key for path in rest for key in (path.spec, path.lease, path.progress)])
    documents |= {key: each.data for key, each in seen.items()}
    there = [path for path in paths if path not in rest or not is_deleted(documents.get(path.spec))]
    rows = [_row(path, documents, seen) for path in there if path not in rest or path.spec in documents]
    tags = {row["id"]: row["tags"] for row in rows if row["kind"] == "sweep"}
    for row in rows:
        row["tags"] = list(dict.fromkeys([*row["tags"], *tags.get(row.get("sweep"), [])]))
    return sorted(rows, key=lambda row: (-float(row["submitted"] or 0), row["id"]))


def _row(paths: RunPaths, documents: dict[str, bytes], seen: dict[str, Seen]) -> Document:
    def read(key: str, kind: type[StoredDocument]) -> Document:
        if key not in documents:
            return {}
        document = from_bytes(documents[key], key)
        fitted(kind, document, key)
        return document

    try:
        progress = read(paths.progress, ProgressDocument)
        found = documents.get(paths.state)
        state = queued() if found is None else fitted(StateDocument, from_bytes(found, paths.state), paths.state)
        spec = documents.get(paths.spec)
        submission = None if spec is None else fitted(SubmissionDocument, from_bytes(spec, paths.spec), paths.spec)
        if submission is not None and progress.get("nonce", submission.nonce) != submission.nonce:
            progress = {}
        ago = seen[paths.spec].age if paths.spec in seen else 0.0
        summary = run_summary(submission, paths.spec) if submission else state.summary or Summary()
        return {
            "id": paths.run_id,
            "state": standing(state, lease_in(seen.get(paths.lease), paths.lease), ago),
            "tags": [],
            **summary.document(),
            **{name: progress.get(name) for name in ("epoch", "step", "steps")},
            "attempts": len(state.attempts),
            "metrics": state.metrics or progress.get("metrics") or {},
            "started": state.started,
            "finished": state.finished,
            "error": state.error.message if state.error else None,
        }
    except Damaged as error:
        return {
            "id": paths.run_id,
            "kind": "train",
            "state": RunState.DAMAGED.value,
            "tags": [],
            "metrics": {},
            "submitted": None,
            "error": str(error),
        }


def _says_all(state: bytes | None) -> bool:
    try:
        document = {} if state is None else from_bytes(state, "state.json")
    except Damaged:
        return False
    return str(document.get("state")) in ENDED and "summary" in document
