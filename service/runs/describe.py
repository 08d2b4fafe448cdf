"""Runs as anyone can read them from the store: one in full, all in short."""

import contextlib
from functools import cache

from service.errors import Damaged, NotFound
from service.names import is_run_id
from service.records.answers import Checkpoint, DamagedRow, Run, RunRow
from service.records.lease import lease_in
from service.records.remarks import remarks_among
from service.records.run_record import RunRecord, queued
from service.records.schemas import ProgressDocument, RunState, StateDocument
from service.records.standing import standing, standing_of
from service.records.stored_document import Stored, read_document
from service.records.submission_schemas import SubmissionDocument, Summary
from service.records.submissions import is_deleted, run_summary
from service.storage.base import Seen, Store
from service.storage.paths import RUNS, RunPaths

SILENT_SECONDS = 30.0
"""Rank 0 says every ten seconds how it stands: where it did not for so long, all its threads stand still (assumed: three times)."""


def show(store: Store, run_id: str) -> Run:
    """All that is known of a run; raise UnknownName."""
    record = RunRecord(store, run_id)
    submission, state, progress = record.submission(), record.state(), record.progress()
    history = record.history()
    stands = standing_of(record, state)
    progress = progress.changed(idle_seconds=None) if state.is_ended else with_silence(record, stands, state, progress)
    events, last = record.events(), history[-1] if history else None
    run = Run(
        id=run_id,
        kind=submission.kind,
        state=stands,
        note=record.note(),
        spec=submission.spec,
        recipe=submission.recipe,
        command=submission.command,
        folder=submission.folder,
        submitted=submission.submitted,
        started=state.started,
        finished=state.finished,
        phase=progress.phase,
        # From the last row of metrics before rank 0 wrote any progress.
        epoch=(last and last.epoch) or 0 if progress.epoch is None else progress.epoch,
        epochs=progress.epochs,
        step=(last.step if last else 0) if progress.step is None else progress.step,
        steps=progress.steps,
        examples_per_second=progress.examples_per_second,
        eta_seconds=progress.eta_seconds,
        idle_seconds=progress.idle_seconds,
        waiting=None if state.is_ended else state.waiting,
        metrics=(state.metrics if state.is_ended else None) or progress.metrics,
        history=tuple(history),
        attempts=state.attempts_with(progress),
        checkpoints=tuple(Checkpoint(step=each.step, path=each.path) for each in record.checkpoints()),
        remarks=tuple(remarks_among(events)),
        events=tuple(events),
        error=state.error,
        exit_code=state.exit_code,
        store=store.url,
    )
    if submission.sweep is not None:
        run = run.model_copy(update={"sweep": submission.sweep})
    return _with_trials(run, record) if submission.is_sweep else run


def _with_trials(run: Run, record: RunRecord) -> Run:
    """The document of a sweep with its trials."""
    # A list of runs has no trials, and what they need takes as long to import as half of what it needs.
    from service.sweeps.trials import results_of

    found = results_of(record, str(run.spec["metric"]), str(run.spec["mode"]))
    return run.model_copy(update={"trials": tuple(found.trials), "best": found.best, "remarks": tuple(found.remarks)})


def with_silence(record: RunRecord, stands: RunState, state: StateDocument, progress: ProgressDocument) -> ProgressDocument:
    """The progress with for how long there was no step, also where rank 0 cannot say it: a thread of it may hold Python's lock."""
    if stands != RunState.RUNNING or progress.trials is not None or progress.attempt != state.attempt:
        return progress
    with contextlib.suppress(NotFound):
        silent = record.store.read_aged(record.paths.progress).age
        if silent >= SILENT_SECONDS:
            return progress.changed(idle_seconds=round((progress.idle_seconds or 0) + silent))
    return progress


def list_runs(store: Store) -> list[RunRow | DamagedRow]:
    """A short row for each run, newest first; one whose documents are damaged is listed as such. A trial has its sweep's tags too."""
    paths = [RunPaths(name) for name in store.list_folders(RUNS) if is_run_id(name)]
    states = store.read_many([path.state for path in paths])
    listed = [_Listed(path, states.get(path.state)) for path in paths]
    # Of a run that has ended its driver's document says all: a long list costs one request for each.
    rest = [each.paths for each in listed if not each.says_all]
    seen = store.read_many_aged([key for path in rest for key in (path.spec, path.lease, path.progress)])
    there = [each for each in listed if each.says_all or (each.paths.spec in seen and not is_deleted(seen[each.paths.spec].data))]
    rows = [each.row(seen) for each in there]
    tags = {row.id: row.tags for row in rows if row.kind == "sweep"}
    return sorted((_with_tags(row, tags) for row in rows), key=lambda row: (-(row.submitted or 0.0), row.id))


def _with_tags(row: RunRow | DamagedRow, of_sweeps: dict[str, tuple[str, ...]]) -> RunRow | DamagedRow:
    added = of_sweeps.get(row.sweep, ())
    return row.model_copy(update={"tags": tuple(dict.fromkeys([*row.tags, *added]))}) if added else row


@cache
def _no_progress() -> ProgressDocument:
    return ProgressDocument()


class _Listed:
    """A run of the list: its state, or why that cannot be read."""

    def __init__(self, paths: RunPaths, data: bytes | None) -> None:
        self.paths = paths
        self._state, self._damage = queued(), None
        try:
            if data is not None:
                self._state = read_document(StateDocument, data, paths.state)
        except Damaged as error:
            self._damage = error

    @property
    def says_all(self) -> bool:
        """Whether no other document says more of the run than its state."""
        return self._damage is None and self._state.is_ended and self._state.summary is not None

    def row(self, seen: dict[str, Seen]) -> RunRow | DamagedRow:
        """The run's row; `seen` holds the other documents of a run whose state does not say all."""
        try:
            if self._damage is not None:
                raise self._damage
            return self._row(seen)
        except Damaged as error:
            return DamagedRow(
                id=self.paths.run_id,
                kind="train",
                state=RunState.DAMAGED,
                tags=(),
                metrics={},
                note=None,
                submitted=None,
                error=str(error),
            )

    def _row(self, seen: dict[str, Seen]) -> RunRow:
        def read(kind: type[Stored], key: str) -> Stored | None:
            return read_document(kind, seen[key].data, key) if key in seen else None

        paths, state, summary = self.paths, self._state, self._state.summary or Summary()
        progress = read(ProgressDocument, paths.progress) or _no_progress()
        submission, ago, queued_seconds = read(SubmissionDocument, paths.spec), 0.0, None
        if submission is not None:
            summary, ago, queued_seconds = run_summary(submission, paths.spec), seen[paths.spec].age, submission.queued_seconds
            if not progress.is_of(submission):
                progress = _no_progress()
        return RunRow(
            id=paths.run_id,
            kind=summary.kind,
            state=standing(state, lease_in(seen.get(paths.lease), paths.lease), ago, queued_seconds),
            tags=summary.tags,
            model=summary.model,
            dataset=summary.dataset,
            workers=summary.workers,
            submitted=summary.submitted,
            epoch=progress.epoch,
            step=progress.step,
            steps=progress.steps,
            attempts=len(state.attempts),
            metrics=state.metrics or progress.metrics,
            note=None,
            started=state.started,
            finished=state.finished,
            error=state.error.message if state.error else None,
            **({} if summary.sweep is None else {"sweep": summary.sweep}),
        )
