"""What the store holds of a run, read for a report."""

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jobs.artifacts.tensors import tensors_from_bytes
from service.errors import Damaged, NotFound
from service.records.run_record import Document, RunRecord, from_bytes
from service.records.schemas import Attempt, Event, ProgressDocument, Row, RunState, StateDocument
from service.records.standing import standing_of
from service.records.submission_schemas import SubmissionDocument
from service.storage.paths import MODEL_FACTS, PICTURES, RESULTS, hardware_name


@dataclass(frozen=True)
class RunFacts:
    """The documents of one run; those that it does not have (yet) are empty."""

    run_id: str
    store: str
    submission: SubmissionDocument
    state: StateDocument
    standing: RunState
    """The run's state as a reader sees it."""
    progress: ProgressDocument
    history: list[Row]
    events: list[Event]
    model: Document = field(default_factory=dict)
    results: Document = field(default_factory=dict)
    pictures: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    machines: list[Document] = field(default_factory=list)
    data: Document = field(default_factory=dict)
    """The manifest of the dataset's version that the run was trained on."""
    made: float = 0.0
    note: str | None = None
    """A person's, as it was when the page was made."""
    left_out: tuple[str, ...] = ()
    """Names of pictures that the page would be too heavy with."""

    @property
    def spec(self) -> Document:
        return dict(self.submission.spec)

    @property
    def ended(self) -> bool:
        return self.state.is_ended

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts; the current one's workers are known to rank 0 before the driver notes them."""
        return self.state.attempts_with(self.progress)

    @property
    def metrics(self) -> Document:
        """The result's, or the newest."""
        return dict((self.state.metrics if self.ended else None) or self.progress.metrics)

    @property
    def step(self) -> int:
        """Steps done."""
        last = self.history[-1].step if self.history else 0
        return int(self.progress.step or last)

    @property
    def steps_per_epoch(self) -> int | None:
        counts: Document = self.model.get("counts") or {}
        return int(counts["steps_per_epoch"]) if "steps_per_epoch" in counts else None

    @property
    def workers(self) -> int:
        """How many trained it last."""
        for attempt in reversed(self.attempts):
            if attempt.workers:
                return len(attempt.workers)
        return len(self.machines)


def is_sweep(record: RunRecord) -> bool:
    """Whether the record is that of a sweep; raise UnknownName."""
    return record.submission().is_sweep


def gather(record: RunRecord) -> RunFacts:
    """Read all that a report shows; raise UnknownName for a run that is not there."""
    submission, state, progress = record.submission(), record.state(), record.progress()
    analysis = record.analysis()
    facts = RunFacts(
        run_id=record.run_id,
        store=record.store.url,
        submission=submission,
        state=state,
        standing=standing_of(record, state),
        progress=progress,
        history=record.history(),
        events=record.events(),
        model=_optional(record, analysis.get(MODEL_FACTS)),
        data=manifest(record, submission),
        made=time.time(),
        note=record.note(),
    )
    machines = [_optional(record, analysis.get(hardware_name(rank))) for rank in range(min(facts.workers, 64))]
    # What a run said of its test split before it was resumed and changed is not its result.
    results = _optional(record, analysis.get(RESULTS)) if state.state == RunState.SUCCEEDED else {}
    pictures = _pictures(record, analysis.get(PICTURES)) if results else {}
    return RunFacts(**{**vars(facts), "results": results, "pictures": pictures, "machines": [m for m in machines if m]})


def _optional(record: RunRecord, key: str | None) -> Document:
    try:
        return from_bytes(record.store.read(key), key) if key else {}
    except NotFound:
        return {}


def _pictures(record: RunRecord, key: str | None) -> dict[str, NDArray[np.uint8]]:
    if key is None:
        return {}
    try:
        return {name: np.asarray(array, np.uint8) for name, array in tensors_from_bytes(record.store.read(key)).items()}
    except NotFound:
        return {}
    except Exception as error:
        # safetensors raises an error class of its own for bytes that are none of its.
        raise Damaged(
            f"The store's object {key} is not what Delayline wrote; delete it, and the report lacks its pictures."
        ) from error


def manifest(record: RunRecord, submission: SubmissionDocument) -> Document:
    """What is known of the dataset's version that a run was trained on."""
    from service.datasets import find_dataset
    from service.errors import DelaylineError

    try:
        document = find_dataset(record.store, submission.dataset, submission.dataset_params).document()
    except DelaylineError:
        name, _, version = submission.dataset.partition("@")
        return {"name": name, "version": version or "unknown"}
    return {
        name: document[name] for name in ("name", "version", "features", "classes", "splits", "source", "imported", "embedded")
    } | {"bytes": sum(int(shard["bytes"]) for shard in document["shards"])}
