"""The documents of a run in the store: claimed once, driven under a lease, read by anyone at any time."""

import contextlib
import secrets
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from service.errors import Conflict, InvalidInput, LeaseLost, NotFound, UnknownName
from service.records.attempt_files import EventFiles, newest_by_name, of_newest_attempt
from service.records.cancel_requests import HANDLED, NODE, PERSON, CancelRequests
from service.records.checkpoint_index import CheckpointIndex, SavedCheckpoint, kept_checkpoints
from service.records.metrics import MetricsLedger, read_parts, shared_prefix
from service.records.schemas import Event, LeaseDocument, NoteDocument, ProgressDocument, Row, RunState, StateDocument
from service.records.stored_document import StoredDocument, fitted, read_document, read_documents
from service.records.submission_schemas import Origin, SubmissionDocument
from service.records.submissions import as_of_today, deletion_mark, is_deleted, new_submission, run_summary
from service.records.sweep_schemas import Trial, TrialsDocument
from service.storage.base import Store
from service.storage.json_documents import Document, from_bytes, rows_from_bytes, rows_to_bytes, to_bytes
from service.storage.paths import RunPaths, attempt_label, new_nonce
from service.storage.shared_document import SharedDocument

if TYPE_CHECKING:
    # Whoever only reads what became of runs does not wait for what a spec may say.
    from service.specs.sweep import SweepSpec
    from service.specs.train import TrainSpec

__all__ = [
    "HANDLED",
    "PERSON",
    "Document",
    "RunRecord",
    "as_of_today",
    "deletion_mark",
    "from_bytes",
    "is_deleted",
    "rows_from_bytes",
    "rows_to_bytes",
    "run_summary",
    "to_bytes",
]


@cache
def queued() -> StateDocument:
    """The state of a run for which no driver wrote any."""
    return StateDocument(state=RunState.QUEUED, attempts=(), error=None)


class RunRecord:
    """Typed access to one run's documents.

    Those that several processes may come to write are written over the version that this record read or wrote last; LeaseLost is
    raised where another process has written since.
    """

    def __init__(self, store: Store, run_id: str, nonce: str | None = None) -> None:
        self.store = store
        self.run_id = run_id
        self.paths = RunPaths(run_id)
        self._nonce = nonce
        self._events = EventFiles(store, self.paths.events_root)
        self._shared: dict[str, SharedDocument] = {}
        self.guard: Callable[[], None] = lambda: None
        """Asked before a shared document or an event is written; a driver's raises LeaseLost once its lease is not its own."""
        self.cancel = CancelRequests(
            self.paths.cancel,
            lambda: self.shared(self.paths.cancel),
            lambda: self._optional(self.paths.cancel),
            lambda: self.state().handled_cancel,
        )

    def shared(self, key: str) -> SharedDocument:
        """The document at one of the run's keys, as this record has seen it."""
        if key not in self._shared:
            self._shared[key] = SharedDocument(self.store, key, self.nonce, lambda: self.guard())
        return self._shared[key]

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

    def claim(self, spec: "TrainSpec | SweepSpec", origin: Origin | None = None) -> bool:
        """Write spec.json if no run and no sweep has this id yet; return whether it was written."""
        nonce = new_nonce()
        self.guard()
        submission = new_submission(spec, origin or Origin()).changed(nonce=nonce)
        try:
            self.store.write(self.paths.spec, to_bytes(submission.document()), if_absent=True)
        except Conflict:
            return False
        self._nonce = nonce
        return True

    def replace_spec(self, spec: "TrainSpec | SweepSpec", origin: Origin) -> None:
        """Write spec.json anew, for a run that nobody drives; raise LeaseLost where it is deleted."""

        def change(found: Document) -> Document:
            if not found or found.get("kind") == "deleted":
                raise LeaseLost(f"The run {self.run_id} was deleted from the store; its driver stops.")
            return new_submission(spec, origin).document()

        self.shared(self.paths.spec).update(change)

    def submission(self) -> SubmissionDocument:
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
        submission = read_document(SubmissionDocument, data, self.paths.spec)
        if self._nonce is None:
            self._nonce = submission.nonce
        return submission

    def spec(self) -> "TrainSpec":
        """The run's spec; raise InvalidInput for a sweep."""
        from service.specs.train import TrainSpec

        submission = self.submission()
        if submission.is_sweep:
            raise InvalidInput(
                f"{self.run_id!r} is a sweep, not a run: `delayline runs show {self.run_id}` names its trials, each a run."
            )
        return TrainSpec.model_validate(submission.spec)

    def sweep_spec(self) -> "SweepSpec":
        """The sweep's spec; raise InvalidInput for a run."""
        from service.specs.sweep import SweepSpec

        submission = self.submission()
        if not submission.is_sweep:
            raise InvalidInput(f"{self.run_id!r} is a run, not a sweep: `delayline runs list` shows of what kind each is.")
        return SweepSpec.model_validate(submission.spec)

    def trials(self) -> tuple[Trial, ...]:
        """A sweep's trials so far, in the order of their begin."""
        return fitted(TrialsDocument, self._optional(self.paths.trials), self.paths.trials).trials

    def write_trials(self, trials: Sequence[Trial]) -> None:
        """Replace the list of trials."""
        self._write(self.paths.trials, TrialsDocument(trials=tuple(trials)).document())

    def _optional(self, key: str, kind: type[StoredDocument] | None = None) -> Document:
        """The document, empty where there is none; raise Damaged where it is not of its kind."""
        try:
            document = from_bytes(self.store.read(key), key)
        except NotFound:
            return {}
        # What a process of a deleted run wrote late carries that run's nonce.
        if "nonce" in document and document["nonce"] != self.nonce:
            return {}
        if kind is not None:
            fitted(kind, document, key)
        return document

    def _write(self, key: str, document: Document) -> None:
        shared = self.shared(key)
        if not shared.seen:
            shared.read()
        shared.write(document)

    def take_state(self, change: Callable[[StateDocument], StateDocument | None]) -> StateDocument:
        """Replace the driver's document by what `change` makes of it (None: nothing), as who drives the run from now on; return that."""
        taken = queued()

        def changed(found: Document) -> Document | None:
            nonlocal taken
            taken = fitted(StateDocument, found, self.paths.state) if found else queued()
            wanted = change(taken)
            if wanted is None:
                return None
            taken = wanted
            return wanted.document()

        self.shared(self.paths.state).update(changed)
        return taken

    def take_trials(self) -> tuple[Trial, ...]:
        """A sweep's trials so far, for whoever writes them from now on."""
        return fitted(TrialsDocument, self.shared(self.paths.trials).read(), self.paths.trials).trials

    def state(self) -> StateDocument:
        """The driver's document; one in state `queued` before a driver wrote any."""
        document = self._optional(self.paths.state)
        return fitted(StateDocument, document, self.paths.state) if document else queued()

    def write_state(self, state: StateDocument) -> None:
        """Replace the driver's document."""
        self._write(self.paths.state, state.document())

    def note(self) -> str | None:
        """A person's note on the run; see service.records.notes."""
        return fitted(NoteDocument, self._optional(self.paths.note), self.paths.note).text or None

    def progress(self) -> ProgressDocument:
        """Rank 0's document, or an empty one."""
        return fitted(ProgressDocument, self._optional(self.paths.progress), self.paths.progress)

    def write_progress(self, progress: ProgressDocument) -> None:
        """Replace rank 0's document."""
        self._write(self.paths.progress, progress.document())

    def history(self) -> list[Row]:
        """The rows of metrics so far; raise Damaged for one that is not as it is written."""
        parts = read_parts(self.store, self.paths, self.nonce)
        return [row for key, data in parts for row in read_documents(Row, data, key)]

    def metric_rows(self) -> list[Document]:
        """The rows as they were written, for whoever writes them again."""
        return [row for _, data in read_parts(self.store, self.paths, self.nonce) for row in rows_from_bytes(data)]

    def metrics_ledger(self, label: str) -> MetricsLedger:
        """What an attempt writes its rows of metrics with."""
        return MetricsLedger(self.store, self.paths, self.nonce, label, self.check_claim)

    def write_history(self, rows: list[Document], label: str | None = None) -> None:
        """Replace the rows of metrics of a run that nobody trains; parts whose rows remain stay as they are."""
        ledger = self.metrics_ledger(label or f"{self.label(0)}-{secrets.token_hex(4)}")
        ledger.restart(shared_prefix(self.store, self.paths, self.nonce, rows), rows)
        ledger.flush()

    def events(self) -> list[Event]:
        """What happened, by time."""
        return self._events.rows(self.nonce)

    def analysis(self) -> dict[str, str]:
        """The key of each file of the analysis by its name, as the newest attempt that has it wrote it."""
        return newest_by_name(self.store, self.paths.analysis_root, self.nonce)

    def tensorboard(self) -> list[str]:
        """The keys of TensorBoard's files, as the newest attempt that has any wrote them."""
        return of_newest_attempt(self.store, self.paths.tensorboard_root, self.nonce)

    def checkpoints(self) -> list[SavedCheckpoint]:
        """The complete checkpoints by step."""
        found = kept_checkpoints(self.store, self.paths, self.nonce)
        return [SavedCheckpoint(each.step, self.paths.checkpoint(each.folder)) for each in found]

    def step_to_resume_from(self) -> int:
        """Of the newest checkpoint, one that a killed attempt completed and could not note included; 0 where there is none."""
        index = CheckpointIndex(self.store, self.paths, self.nonce, "", self.check_claim)
        return max((kept.step for kept in index.found()), default=0)

    def check_claim(self) -> None:
        """Raise LeaseLost when the run was deleted, also where its id is another run's by now."""
        try:
            found = RunRecord(self.store, self.run_id).submission().nonce
        except UnknownName:
            found = None
        if self.nonce and found != self.nonce:
            raise LeaseLost(f"The run {self.run_id} was deleted from the store; this process stops.")

    def request_cancel(self, reason: str = PERSON) -> None:
        """Ask the run's driver and workers to stop at the next step."""
        self.cancel.make(reason)

    def cancel_requested(self) -> bool:
        """Whether somebody asked the run to stop."""
        standing = self.cancel.standing()
        return standing is not None and standing.reason != NODE

    def workers_are_to_stop(self) -> bool:
        """Whether the workers of the attempt under way are to save and stop; the run may go on."""
        return self.cancel.standing() is not None

    def with_handled_cancel(self, state: StateDocument, *reasons: str) -> StateDocument:
        """The state of a run that ends now, with the request to stop that stands, if it is one of these reasons or none are given."""
        standing = self.cancel.standing()
        if standing is None or (reasons and standing.reason not in reasons):
            return state
        return state.changed(handled_cancel=standing.id)

    def person_cancelled(self) -> bool:
        """Whether it was a person who asked, and not a sweep whose budget was used up."""
        standing = self.cancel.standing()
        return standing is not None and standing.reason == PERSON

    def lease(self) -> LeaseDocument | None:
        """Who drives the run, None before the first driver; service.records.lease says whether they live."""
        document = self._optional(self.paths.lease, LeaseDocument)
        return LeaseDocument.model_validate(document) if document else None
