"""The documents of a run in the store: claimed once, driven under a lease, read by anyone at any time."""

import contextlib
import json
import os
import secrets
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from pydantic import ValidationError

from service.errors import Conflict, InvalidInput, LeaseLost, NotFound, UnknownName
from service.run_paths import RunPaths, attempt_label, new_nonce, number_of
from service.specs import TrainSpec
from service.storage.base import Store
from service.storage.checkpoint_index import kept_checkpoints
from service.storage.documents import Document, from_bytes, rows_from_bytes, rows_to_bytes, to_bytes
from service.storage.metrics import MetricsLedger, read_rows, shared_prefix
from service.sweep_specs import SweepSpec

__all__ = [
    "ENDED",
    "HEARTBEAT_SECONDS",
    "LEASE_SECONDS",
    "PERSON",
    "Document",
    "Lease",
    "RunRecord",
    "as_of_today",
    "boot_id",
    "deletion_mark",
    "from_bytes",
    "is_deleted",
    "lease_is_live",
    "rows_from_bytes",
    "rows_to_bytes",
    "run_summary",
    "to_bytes",
]

LEASE_SECONDS = 30.0
"""A driver that was silent for so long is taken for lost (assumed: ten heartbeats)."""
HEARTBEAT_SECONDS = 3.0
PERSON = "person"
"""Who asks a run to stop, if nobody else is named."""
ENDED = frozenset({"succeeded", "failed", "cancelled"})


class RunRecord:
    """Typed access to one run's documents."""

    def __init__(self, store: Store, run_id: str, nonce: str | None = None) -> None:
        self.store = store
        self.run_id = run_id
        self.paths = RunPaths(run_id)
        self._nonce = nonce

    @property
    def nonce(self) -> str:
        """What was drawn when the run was claimed, as this record saw it first; empty for a run of the first format."""
        if self._nonce is None:
            with contextlib.suppress(UnknownName):
                self.submission()
        return self._nonce or ""

    def label(self, attempt: int) -> str:
        """The attempt's part of its keys."""
        return attempt_label(attempt, self.nonce)

    def claim(self, spec: TrainSpec | SweepSpec, origin: Document) -> bool:
        """Write spec.json if no run and no sweep has this id yet; return whether it was written.

        `origin` says how the run was submitted: `recipe`, `command`, `folder`.
        """
        nonce = new_nonce()
        try:
            self.store.write(self.paths.spec, _submission(spec, {**origin, "nonce": nonce}), if_absent=True)
        except Conflict:
            return False
        self._nonce = nonce
        return True

    def replace_spec(self, spec: TrainSpec | SweepSpec, origin: Document) -> None:
        """Write spec.json anew, for a run that nobody drives."""
        nonce = {"nonce": self.nonce} if self.nonce else {}
        self.store.write(self.paths.spec, _submission(spec, {**origin, **nonce}))

    def submission(self) -> Document:
        """The spec.json document; raise UnknownName when there is no such run."""
        try:
            data = self.store.read(self.paths.spec)
        except NotFound as error:
            raise UnknownName(
                f"There is no run {self.run_id!r} in {self.store.url}; `delayline runs list` shows those that are."
            ) from error
        if is_deleted(data):
            raise UnknownName(
                f"The run {self.run_id!r} is deleted, but not to the end yet: `delayline runs prune` deletes the rest; take another id until then."
            )
        document = from_bytes(data, self.paths.spec)
        if self._nonce is None:
            self._nonce = str(document.get("nonce", ""))
        return document

    def spec(self) -> TrainSpec:
        """The run's spec; raise InvalidInput for a sweep."""
        submission = self.submission()
        if submission.get("kind") == "sweep":
            raise InvalidInput(
                f"{self.run_id!r} is a sweep, not a run: `delayline runs show {self.run_id}` names its trials, each a run."
            )
        return TrainSpec.model_validate(submission["spec"])

    def sweep_spec(self) -> SweepSpec:
        """The sweep's spec; raise InvalidInput for a run."""
        submission = self.submission()
        if submission.get("kind") != "sweep":
            raise InvalidInput(f"{self.run_id!r} is a run, not a sweep: `delayline runs list` shows of what kind each is.")
        return SweepSpec.model_validate(submission["spec"])

    def trials(self) -> list[Document]:
        """A sweep's trials so far, in the order of their begin: `id`, `point`, `base`, `seed`, `params`."""
        found: list[Document] = self._optional(self.paths.trials).get("trials", [])
        return found

    def write_trials(self, trials: list[Document]) -> None:
        """Replace the list of trials."""
        self.store.write(self.paths.trials, to_bytes({"trials": trials}))

    def _optional(self, key: str) -> Document:
        try:
            return from_bytes(self.store.read(key), key)
        except NotFound:
            return {}

    def state(self) -> Document:
        """The driver's document; one in state `queued` before a driver wrote any."""
        return self._optional(self.paths.state) or {"state": "queued", "attempts": [], "error": None}

    def write_state(self, document: Document) -> None:
        """Replace the driver's document."""
        self.store.write(self.paths.state, to_bytes(document))

    def progress(self) -> Document:
        """Rank 0's document, or an empty one."""
        return self._optional(self.paths.progress)

    def write_progress(self, document: Document) -> None:
        """Replace rank 0's document."""
        self.store.write(self.paths.progress, to_bytes(document))

    def history(self) -> list[Document]:
        """The rows of metrics so far."""
        return read_rows(self.store, self.paths, self.nonce)

    def metrics_ledger(self, label: str) -> MetricsLedger:
        """What an attempt writes its rows of metrics with."""
        return MetricsLedger(self.store, self.paths, self.nonce, label, self.check_claim)

    def write_history(self, rows: list[Document], label: str | None = None) -> None:
        """Replace the rows of metrics of a run that nobody trains; parts whose rows remain stay as they are."""
        ledger = self.metrics_ledger(label or f"{self.label(0)}-{secrets.token_hex(4)}")
        ledger.restart(shared_prefix(self.store, self.paths, self.nonce, rows), rows)
        ledger.flush()

    def events(self) -> list[Document]:
        """What happened, by time: rows of `time`, `event`, `message` and details."""
        root, nonce = self.paths.events_root, self.nonce
        keys = [info.key for info in self.store.list(root) if number_of(info.key[len(root) :], nonce) is not None]
        rows = [row for key in keys for row in rows_from_bytes(self.store.read(key))]
        return sorted(rows, key=lambda row: float(row["time"]))

    def analysis(self) -> dict[str, str]:
        """The key of each file of the analysis by its name, as the newest attempt that has it wrote it.

        A run of the first format has them without an attempt in the key.
        """
        root, nonce, found = self.paths.analysis_root, self.nonce, dict[str, tuple[int, str]]()
        for info in self.store.list(root):
            folder, _, name = info.key[len(root) :].rpartition("/")
            number = number_of(folder, nonce) if folder else 0
            if number is not None and number >= found.get(name, (0, ""))[0]:
                found[name] = (number, info.key)
        return {name: key for name, (_, key) in found.items()}

    def tensorboard(self) -> list[str]:
        """The keys of TensorBoard's files, as the newest attempt that has any wrote them."""
        root, nonce, found = self.paths.tensorboard_root, self.nonce, dict[int, list[str]]()
        for info in self.store.list(root):
            folder = info.key[len(root) :].rpartition("/")[0]
            number = number_of(folder, nonce) if folder else 0
            if number is not None:
                found.setdefault(number, []).append(info.key)
        return found[max(found)] if found else []

    def checkpoints(self) -> list[Document]:
        """The complete checkpoints by step: `step`, `path`."""
        found = kept_checkpoints(self.store, self.paths, self.nonce)
        return [{"step": each.step, "path": self.paths.checkpoint(each.folder)} for each in found]

    def check_claim(self) -> None:
        """Raise LeaseLost when the run was deleted, also where its id is another run's by now."""
        try:
            found = RunRecord(self.store, self.run_id).submission().get("nonce", "")
        except UnknownName:
            found = None
        if self.nonce and found != self.nonce:
            raise LeaseLost(f"The run {self.run_id} was deleted from the store; this process stops.")

    def request_cancel(self, reason: str = PERSON) -> None:
        """Ask the run's driver and workers to stop at the next step."""
        self.store.write(self.paths.cancel, to_bytes({"time": time.time(), "reason": reason}))

    def cancel_requested(self) -> bool:
        """Whether somebody asked the run to stop."""
        return bool(self._optional(self.paths.cancel))

    def person_cancelled(self) -> bool:
        """Whether it was a person who asked, and not a sweep whose budget was used up."""
        request = self._optional(self.paths.cancel)
        return bool(request) and request.get("reason", PERSON) == PERSON

    def clear_cancel(self) -> None:
        """Forget a request to stop."""
        self.store.delete(self.paths.cancel)

    def lease(self) -> Document:
        """Who drives the run, or an empty document."""
        return self._optional(self.paths.lease)


def _submission(spec: TrainSpec | SweepSpec, origin: Document) -> bytes:
    kind = "sweep" if isinstance(spec, SweepSpec) else "train"
    return to_bytes({"kind": kind, "spec": spec.document(), "submitted": time.time(), **origin})


def deletion_mark() -> bytes:
    """What stands in the place of a run's spec while the rest of the run is deleted."""
    return to_bytes({"kind": "deleted", "deleted": time.time()})


def is_deleted(spec: bytes | None) -> bool:
    """Whether the bytes of a spec.json are a deletion mark."""
    try:
        return spec is not None and len(spec) < 1000 and json.loads(spec).get("kind") == "deleted"
    except (ValueError, AttributeError):
        return False


def run_summary(submission: Document) -> Document:
    """What a list of runs shows of a submission: `kind`, `model`, `dataset`, `workers`, `submitted`."""
    spec, kind = submission["spec"], submission.get("kind", "train")
    shown = {name: spec.get(name) for name in ("model", "dataset", "workers")}
    if kind == "sweep":
        bases = [base["values"] for base in spec["base"]]
        shown |= {name: ", ".join(dict.fromkeys(str(base.get(name)) for base in bases)) for name in ("model", "dataset")}
    trial = {"sweep": submission["sweep"]} if "sweep" in submission else {}
    return {"kind": kind, **shown, "submitted": submission.get("submitted"), **trial}


def lease_is_live(lease: Document, now: float | None = None) -> bool:
    """Whether a lease's holder is alive: its heartbeat is fresh and, on this very machine, its process exists."""
    if not lease or lease.get("released"):
        return False
    if lease["host"] == socket.gethostname() and lease.get("boot") == boot_id():
        return bool(_process_started(lease["pid"]) == lease["pid_started"])
    return bool((time.time() if now is None else now) - lease["heartbeat"] < LEASE_SECONDS)


def boot_id() -> str:
    """Tells two machines, or two boots of one, of the same host name apart; containers add their pid namespace."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _process_started(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        # A killed process whose parent has not asked for its end yet still has an entry.
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


@dataclass
class Lease:
    """The right to drive a run. `renew` raises LeaseLost once somebody else took it."""

    record: RunRecord
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    _version: str | None = None

    def acquire(self) -> bool:
        """Take the lease if nobody alive holds it, or the holder has this token; of two that try at once one gets it."""
        store, key = self.record.store, self.record.paths.lease
        try:
            data, version = store.read_versioned(key)
        except NotFound:
            data, version = b"", ""
        held = from_bytes(data, key) if data else {}
        if lease_is_live(held) and held["token"] != self.token:
            return False
        try:
            if data:
                self._version = store.write(key, self._document(), if_version=version)
            else:
                self._version = store.write(key, self._document(), if_absent=True)
        except Conflict:
            return False
        return True

    def renew(self) -> None:
        """Write a fresh heartbeat; raise LeaseLost when somebody else holds the lease."""
        self._replace(self._document())

    def release(self) -> None:
        """Give the lease back; a lease that somebody else took stays theirs."""
        try:
            self._replace(self._document(released=True))
        except LeaseLost:
            return

    def _replace(self, document: bytes) -> None:
        if self._version is None:
            raise InvalidInput("This lease was never acquired; call acquire() first.")
        key = self.record.paths.lease
        try:
            self._version = self.record.store.write(key, document, if_version=self._version)
        except (Conflict, NotFound) as error:
            # A retried write whose first answer was lost conflicts with itself: the token tells.
            try:
                data, version = self.record.store.read_versioned(key)
            except NotFound:
                raise LeaseLost(f"The run {self.record.run_id} was deleted from the store; its driver stops.") from error
            if from_bytes(data, key).get("token") != self.token:
                raise LeaseLost(f"Another driver took over the run {self.record.run_id}; this one stops.") from error
            self._version = version

    def _document(self, released: bool = False) -> bytes:
        pid = os.getpid()
        return to_bytes(
            {
                "token": self.token,
                "host": socket.gethostname(),
                "boot": boot_id(),
                "pid": pid,
                "pid_started": _process_started(pid),
                "heartbeat": time.time(),
                "released": released,
            }
        )


def as_of_today(stored: Document, kind: type[TrainSpec | SweepSpec]) -> Document:
    """A stored spec with the keys that this version added, at their defaults."""
    try:
        return kind.model_validate(stored).document()
    except ValidationError:
        return stored
