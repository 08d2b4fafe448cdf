"""The progress document of a sweep: its trials as they stand, the best point so far, the time used and left."""

from pydantic import JsonValue

from jobs.sweeps.dispatcher import TrialDispatcher
from service.records.answers import TrialRow
from service.records.run_record import RunRecord
from service.records.schemas import ProgressDocument, RunState
from service.specs.sweep import SweepSpec
from service.sweeps.points import UNBOUNDED
from service.sweeps.trials import OVER, best_of, counts_of, seconds_left, table, trial_rows


class SweepProgress:
    """Writes the document. `used_seconds`: of all drivers of the sweep so far, as the watch measures them."""

    def __init__(
        self, record: RunRecord, spec: SweepSpec, dispatcher: TrialDispatcher, attempt: int, used_seconds: float
    ) -> None:
        self.record = record
        self.used_seconds = used_seconds
        self._spec = spec
        self._dispatcher = dispatcher
        self._attempt = attempt
        self._ended_rows: dict[str, TrialRow] = {}

    def write(self) -> list[TrialRow]:
        """Write the document; return a row for each trial. Raise StoreError."""
        rows = self._rows()
        self.record.write_progress(
            ProgressDocument(
                attempt=self._attempt,
                phase=RunState.RUNNING,
                trials=counts_of(rows),
                total=self.total,
                used_seconds=self.used_seconds,
                eta_seconds=seconds_left(rows, self.total, self.used_seconds, self._spec.budget),
                best=best_of(rows, self._spec.metric, self._spec.mode),
                table=tuple(table(rows, self._spec.metric, self._spec.mode)),
                metrics=self.metrics(rows),
            )
        )
        return rows

    @property
    def total(self) -> int | None:
        """How many trials there will be; None where only a budget ends the sweep."""
        total = self._dispatcher.table.total
        return total if total < UNBOUNDED else None

    @property
    def out_of_time(self) -> bool:
        """Whether the sweep's budget is used up."""
        return self._spec.budget is not None and self.used_seconds > self._spec.budget

    def metrics(self, rows: list[TrialRow]) -> dict[str, JsonValue]:
        """The metric's mean at the best point; empty before the first."""
        best = best_of(rows, self._spec.metric, self._spec.mode)
        return {self._spec.metric: best.mean} if best else {}

    def _rows(self) -> list[TrialRow]:
        """All trials as they stand; those that are over are read once."""
        trials, due = self._dispatcher.snapshot()
        fresh = trial_rows(self.record.store, [trial for trial in trials if trial.id not in self._ended_rows])
        rows = {**self._ended_rows, **{row.id: row for row in fresh}}
        self._ended_rows |= {row.id: row for row in fresh if row.state in OVER and row.id not in due}
        return [rows[trial.id] for trial in trials]
