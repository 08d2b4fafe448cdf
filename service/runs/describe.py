"""Runs as anyone can read them from the store: show, list, watch, logs, cancel."""

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from service.errors import Damaged, InvalidInput, NotFound, StoreUnreachable, UnknownName
from service.names import is_run_id
from service.records.lease import LEASE_SECONDS, lease_in, lease_is_live, lease_of
from service.records.remarks import remarks_among
from service.records.run_record import ENDED, Document, RunRecord, from_bytes, is_deleted, run_summary
from service.records.standing import end_without_driver, is_driven, standing, standing_of
from service.storage.base import ObjectInfo, Seen, Store
from service.storage.paths import LOG_PART, RUNS, RunPaths, number_of
from service.sweeps.trials import sweep_document

SILENT_SECONDS = 30.0
"""Rank 0 says every ten seconds how it stands: where it did not for so long, all its threads stand still (assumed: three times)."""
EVENT_SECONDS = 2.0
"""Between looks at the events and the lease while watching (assumed: they matter less often than the step)."""
_LOG_NAME = re.compile(r"[^/]+/(?:rank-(\d+)|driver)(?:\.(\d+))?\.log\Z")


def show(store: Store, run_id: str) -> Document:
    """All that is known of a run; raise UnknownName."""
    record = RunRecord(store, run_id)
    submission, state, progress = record.submission(), record.state(), record.progress()
    history = record.history()
    ended, stands = state["state"] in ENDED, standing_of(record, state)
    progress = {**progress, "idle_seconds": None} if ended else _with_silence(record, stands, state, progress)
    events = record.events()
    return {
        "id": run_id,
        "kind": submission.get("kind", "train"),
        "state": stands,
        "note": record.note(),
        "spec": submission["spec"],
        **{name: submission.get(name) for name in ("recipe", "command", "folder", "submitted")},
        "started": state.get("started"),
        "finished": state.get("finished"),
        **_position(progress, history),
        "waiting": None if ended else state.get("waiting"),
        "metrics": (state.get("metrics") if ended else None) or progress.get("metrics") or {},
        "history": history,
        "attempts": _attempts(state, progress),
        "checkpoints": record.checkpoints(),
        "remarks": remarks_among(events),
        "events": events,
        "error": state.get("error"),
        "exit_code": state.get("exit_code"),
        "store": store.url,
        **({"sweep": submission["sweep"]} if "sweep" in submission else {}),
        **(sweep_document(record, submission["spec"]) if submission.get("kind") == "sweep" else {}),
    }


def _with_silence(record: RunRecord, stands: str, state: Document, progress: Document) -> Document:
    """The progress with for how long there was no step, also where rank 0 cannot say it: a thread of it may hold Python's lock."""
    if stands != "running" or "trials" in progress or progress.get("attempt") != state.get("attempt"):
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


def _attempts(state: Document, progress: Document) -> list[Document]:
    """The attempts; the current one's workers are known to rank 0 before the driver notes them."""
    attempts = [{"workers": [], **attempt} for attempt in state["attempts"]]
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
    def read(key: str) -> Document:
        return from_bytes(documents[key], key) if key in documents else {}

    try:
        progress, state = read(paths.progress), read(paths.state) or {"state": "queued", "attempts": []}
        submission = read(paths.spec)
        if progress.get("nonce", submission.get("nonce")) != submission.get("nonce"):
            progress = {}
        ago = seen[paths.spec].age if paths.spec in seen else 0.0
        summary = run_summary(submission) if submission else state["summary"]
        return {
            "id": paths.run_id,
            "state": standing(state, lease_in(seen.get(paths.lease), paths.lease), ago),
            "tags": [],
            **summary,
            **{name: progress.get(name) for name in ("epoch", "step", "steps")},
            "attempts": len(state["attempts"]),
            "metrics": state.get("metrics") or progress.get("metrics") or {},
            "started": state.get("started"),
            "finished": state.get("finished"),
            "error": (state.get("error") or {}).get("message"),
        }
    except (Damaged, KeyError, TypeError, AttributeError) as error:
        problem = str(error) if isinstance(error, Damaged) else f"Its documents lack {error}."
        return {
            "id": paths.run_id,
            "kind": "train",
            "state": "damaged",
            "tags": [],
            "metrics": {},
            "submitted": None,
            "error": problem,
        }


def _says_all(state: bytes | None) -> bool:
    try:
        document = {} if state is None else from_bytes(state, "state.json")
    except Damaged:
        return False
    return document.get("state") in ENDED and "summary" in document


@dataclass(frozen=True)
class Update:
    """What a look at a run found.

    `state` as a reader sees it; `document` and `progress` as the driver and rank 0 wrote them; `events` that are new;
    `problem`: why nothing could be read this time, or None.
    """

    state: str
    document: Document
    progress: Document
    events: list[Document]
    problem: str | None = None


def watch(
    store: Store, run_id: str, *, earlier_end: float | None = None, interval: float | None = None, patience: float = 300.0
) -> Iterator[Update]:
    """Look at a run every `interval` seconds until its end; updates of state `lost` are left to the caller to stop at.

    Without an interval it looks every two seconds, in a folder more often. `earlier_end`: an end at this time is that of an
    earlier submission and does not count. A store that is away is waited for `patience` seconds; then StoreUnreachable is raised.
    """
    watcher = _Watcher(RunRecord(store, run_id), earlier_end)
    away_since: float | None = None
    while True:
        try:
            update, away_since = watcher.look(), None
        except StoreUnreachable as error:
            away_since = time.monotonic() if away_since is None else away_since
            if time.monotonic() - away_since > patience:
                raise
            update = watcher.blind(str(error))
        yield update
        if update.problem is None and update.state in ENDED:
            return
        time.sleep(store.look_seconds if interval is None else interval)


class _Watcher:
    """Remembers which events were seen, when the slow looks are due, and since when nobody drives the run."""

    def __init__(self, record: RunRecord, earlier_end: float | None) -> None:
        self._record = record
        self._earlier_end = earlier_end
        record.submission()
        self._slow_look = 0.0
        self._alone_since: float | None = None
        self._seen: set[tuple[Any, ...]] = set() if earlier_end is None else {_identity(row) for row in record.events()}
        self._last = Update("", {"state": "queued", "attempts": []}, {}, [])
        self._silence: Document = {}
        """What is added to the progress of a rank 0 that has not written any for long."""

    def look(self) -> Update:
        """Read what changes often, and now and then the rest."""
        document, progress = self._record.state(), self._record.progress()
        if self._earlier_end is not None and document["state"] in ENDED and document.get("finished") == self._earlier_end:
            document, progress = {**document, "state": "queued"}, {}
        state, events = str(document["state"]), []
        if state != self._last.document["state"] or time.monotonic() - self._slow_look > EVENT_SECONDS:
            events = self._new_events()
            self._note_whether_alone(document)
            told = _with_silence(self._record, state if self._alone_since is None else "lost", document, progress)
            self._silence = {} if told is progress else {"idle_seconds": told["idle_seconds"]}
            self._slow_look = time.monotonic()
        alone = self._alone_since is not None and time.monotonic() - self._alone_since > LEASE_SECONDS
        shown = "lost" if alone and state not in ENDED else state
        self._last = Update(shown, document, {**progress, **self._silence}, events)
        return self._last

    def blind(self, problem: str) -> Update:
        """The last update once more, for a look that failed."""
        return Update(self._last.state, self._last.document, self._last.progress, [], problem)

    def _note_whether_alone(self, document: Document) -> None:
        # A driver that was killed is started again within seconds: only a run that stays alone is lost.
        if document["state"] in ENDED or is_driven(self._record, document):
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()

    def _new_events(self) -> list[Document]:
        rows = [row for row in self._record.events() if _identity(row) not in self._seen]
        self._seen |= {_identity(row) for row in rows}
        return rows


def _identity(row: Document) -> tuple[Any, ...]:
    return (row.get("time"), row.get("event"), row.get("message"))


@dataclass(frozen=True)
class Log:
    """What one process of an attempt printed; `rank` is None for the driver."""

    attempt: int
    rank: int | None
    text: str


@dataclass(frozen=True)
class LogPart:
    """One object of a log, in the order of attempts, ranks (the driver's, None, first) and parts."""

    attempt: int
    rank: int | None
    number: int
    info: ObjectInfo


def log_parts(store: Store, root: str, nonce: str) -> list[LogPart]:
    """All parts of all logs below `root`; those of a worker follow each other by `LOG_PART` bytes."""
    found = []
    for info in store.list(root):
        name = info.key[len(root) :]
        match, attempt = _LOG_NAME.fullmatch(name), number_of(name, nonce)
        if match is not None and attempt is not None:
            found.append(LogPart(attempt, int(match[1]) if match[1] else None, int(match[2] or 0), info))
    return sorted(found, key=lambda part: (part.attempt, -1 if part.rank is None else part.rank, part.number))


def logs(store: Store, run_id: str, attempt: int | None = None, rank: int | None = None) -> list[Log]:
    """The logs of an attempt (None: the latest that has any), of all its ranks or of one; raise UnknownName."""
    record = RunRecord(store, run_id)
    record.submission()
    found = log_parts(store, record.paths.logs, record.nonce)
    attempts = sorted({part.attempt for part in found})
    if not attempts:
        raise UnknownName(f"The run {run_id!r} has no logs yet; `delayline runs show {run_id}` says how it stands.")
    wanted = attempts[-1] if attempt is None else attempt
    chosen = [part for part in found if part.attempt == wanted and (rank is None or part.rank == rank)]
    if not chosen:
        which = f"attempt {wanted}" + (f", rank {rank}" if rank is not None else "")
        raise UnknownName(f"The run {run_id!r} has no log of {which}; there are attempts {', '.join(map(str, attempts))}.")
    data = store.read_many([part.info.key for part in chosen])
    texts: dict[int | None, bytes] = {}
    for part in chosen:
        begun = texts.setdefault(part.rank, _left_out(part.number))
        texts[part.rank] = begun + data.get(part.info.key, b"")
    return [Log(wanted, number, text.decode(errors="replace")) for number, text in texts.items()]


def _left_out(parts: int) -> bytes:
    """What stands in the place of parts that are no longer kept."""
    return f"[the first {parts * LOG_PART:,} bytes are no longer kept]\n".encode() if parts else b""


def cancel(store: Store, run_id: str) -> str:
    """Ask a run to save and stop; return `cancelled` when nobody drove it and it ended at once, else `requested`.

    Raise InvalidInput when it has ended.
    """
    record = RunRecord(store, run_id)
    record.submission()
    state = record.state()
    if state["state"] in ENDED:
        raise InvalidInput(f"The run {run_id!r} has ended already ({state['state']}): there is nothing to cancel.")
    record.request_cancel()
    if not lease_is_live(lease_of(record)) and end_without_driver(record, "cancelled", None, 130):
        return "cancelled"
    return "requested"
