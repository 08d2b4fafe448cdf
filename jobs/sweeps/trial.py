"""One trial of a sweep in a process of Ray Tune: a run that is driven here, warm for the next one, reported to Tune as it goes."""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from queue import Empty, Queue
from typing import Any

from ray import tune
from ray.train._internal.session import _TrainingResult

from jobs.liveness import tick
from jobs.sweeps.exploit import take_over
from jobs.sweeps.group_trial import CompanyTrial
from jobs.sweeps.trial_run import EVALUATION, LOOK_SECONDS, MUTATION, OVER, STEP, TAKEN, TrialRun
from jobs.worker.cleanup import release_graphs
from jobs.worker_groups.base import Group, InProcess
from jobs.worker_groups.ray_train import DRIVER_CPUS, WorkerGroup
from service.errors import DelaylineError, StoreError
from service.records.cancel_requests import SWEEP
from service.records.run_record import Document, RunRecord
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage import open_store

SAVE_PATIENCE = 60.0
"""For the checkpoint of an evaluation, which is on its way when the evaluation is told (assumed: longer than a write takes)."""


@dataclass(frozen=True)
class TrialOrder:
    """What the sweep tells a process of Tune about a trial; plain values, no secrets."""

    id: str
    sweep: str
    store: str
    folder: str
    metric: str
    by_evaluation: bool
    """Whether each evaluation is reported, for a scheduler to go by, or the end alone."""
    from_history: bool
    """Whether those that were reported to an earlier process are reported again."""
    over: bool
    """Whether that is all there is to do: the trial itself is not gone on with."""
    mutation: Document | None
    """Of PBT, the newest: what the run takes over before it goes on, unless it did; see jobs.sweeps.exploit."""
    distributed: bool
    local: bool
    environment: Mapping[str, str]
    companions: tuple[str, ...] = ()
    """The runs that train together with this one."""

    def runs(self) -> list[TrialRun]:
        """This trial's run and its companions'."""
        os.environ.update(self.environment)
        settings = Settings.load(store=self.store)
        store = open_store(settings, patience=settings.store_patience)
        return [TrialRun(RunRecord(store, run_id), self.sweep, settings, self.folder) for run_id in (self.id, *self.companions)]


class JoinedGroup(WorkerGroup):
    """Workers of the Ray cluster that this process belongs to, which find room for it beside them."""

    spared_cpus = DRIVER_CPUS

    def connect(self) -> None:
        """This process is connected."""

    def is_alive(self) -> bool:
        """A cluster that goes takes this process along."""
        return True

    def disconnect(self) -> None:
        """The next trial runs here too."""


class TrialProcess(tune.Trainable):
    """What Ray Tune calls. It is kept for trial after trial: TensorFlow is imported once."""

    _order: TrialOrder
    _trial: "Trial | CompanyTrial | None" = None
    _reports: Iterator[dict[str, Any]]

    def setup(self, config: dict[str, Any]) -> None:
        """Hear of the first trial."""
        self._order = TrialOrder(**config["order"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go over to another trial."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The next report of the trial, which begins with the first.

        Not before: Tune gives a trial whose process is slow to start to one that is free sooner, and ends the slow one.
        """
        if self._trial is None:
            self._trial = CompanyTrial(self._order.runs()) if self._order.companions else Trial(self._order)
            self._reports = self._trial.reports()
        return next(self._reports)

    def save(self, checkpoint_dir: str | None = None) -> _TrainingResult:
        """Wait for the run's checkpoint of what was reported last. Tune gets none: it keeps files where other nodes see none."""
        if isinstance(self._trial, Trial):
            self._trial.wait_for_checkpoint()
        return _TrainingResult(tune.Checkpoint(self.logdir), dict(self._last_result or {}))

    def restore(self, checkpoint_path: Any) -> None:
        """Nothing: a run goes on from its own checkpoint."""

    def cleanup(self) -> None:
        """Let a trial that is not at its end save and stop."""
        if self._trial is not None:
            self._trial.stop()
        self._trial = None
        release_graphs()


class Trial:
    """Drives one run in a thread. With `by_evaluation` the run waits at each evaluation until Tune wants the next one."""

    def __init__(self, order: TrialOrder) -> None:
        (self._run,) = order.runs()
        self._order = order
        self._record = self._run.record
        self._spec = self._record.spec()
        self._error: DelaylineError | None = None
        self._rows: Queue[Document] = Queue()
        self._told = 0
        self._waits = False
        self._taken: dict[str, int | None] = {}
        self._wanted = threading.Semaphore(0)
        self._stopped = threading.Event()
        self._has_taken = threading.Event()
        self._thread = threading.Thread(target=self._drive, name=order.id, daemon=True)
        self._thread.start()

    def reports(self) -> Iterator[dict[str, Any]]:
        """What Tune is told: each evaluation if wanted, then the end, `done`; raise InfrastructureFailure for a lost lease."""
        number = 0
        for row in self._evaluations() if self._order.by_evaluation else ():
            number = int(row["epoch"]) // self._spec.evaluate.every_epochs
            yield {self._order.metric: row[self._order.metric], EVALUATION: number, STEP: int(row["step"]), **self._taken}
        self._thread.join()
        if self._error is not None:
            raise self._error
        state = self._record.state()
        value = state.get("metrics", {}).get(self._order.metric)
        found = {} if value is None or state["state"] == "failed" else {self._order.metric: value}
        # One that was stopped has not come as far as another evaluation.
        end = number + (state["state"] != "cancelled")
        yield {**found, EVALUATION: end, OVER: True, **self._taken, "done": True}

    def stop(self) -> None:
        """Ask the run to save and stop, and wait for it."""
        # One that waits hears of it here: a request in the store could be read by the process that trains the run next.
        waits = self._waits
        self._stopped.set()
        while self._thread.is_alive():
            self._wanted.release()
            if not waits and not self._record.cancel_requested():
                self._record.request_cancel(SWEEP)
            self._thread.join(LOOK_SECONDS)

    def wait_for_checkpoint(self) -> None:
        """Return once the checkpoint of what was reported last is in the store, or will not come."""
        end = time.monotonic() + SAVE_PATIENCE
        while self._thread.is_alive() and time.monotonic() < end:
            if any(checkpoint["step"] >= self._told for checkpoint in self._record.checkpoints()):
                return
            time.sleep(LOOK_SECONDS)

    def _evaluations(self) -> Iterator[Document]:
        """The rows with the metric: those of earlier attempts if wanted, then those to come, until the run's end."""
        # Before it has taken over, a run still has rows that it gives up.
        self._has_taken.wait()
        for row in self._record.history() if self._order.from_history else ():
            if self._is_judged(row):
                self._told = max(self._told, int(row["step"]))
                yield row
        while self._thread.is_alive() or not self._rows.empty():
            if self._distributed:
                time.sleep(max(LOOK_SECONDS, self._record.store.look_seconds))
                rows = [row for row in self._record.history() if self._is_judged(row) and int(row["step"]) > self._told]
            else:
                rows = self._handed_over()
            for row in rows:
                self._told = int(row["step"])
                yield row
                # The next one is wanted: the training that waits goes on.
                if not self._distributed:
                    self._wanted.release()

    def _handed_over(self) -> list[Document]:
        try:
            row = self._rows.get(timeout=LOOK_SECONDS)
        except Empty:
            return []
        if int(row["step"]) > self._told:
            return [row]
        self._wanted.release()
        return []

    def _goes_on(self, row: Document) -> bool:
        """In the training's thread: hand an evaluation over, and wait until Tune has judged it."""
        if self._order.by_evaluation and self._is_judged(row) and not self._stopped.is_set():
            self._waits = True
            self._rows.put(row)
            while not self._wanted.acquire(timeout=max(LOOK_SECONDS, self._record.store.look_seconds)):
                tick()
                if self._asked_to_stop():
                    return False
            self._waits = self._stopped.is_set()
        return not self._stopped.is_set()

    def _asked_to_stop(self) -> bool:
        try:
            return self._record.cancel_requested()
        except StoreError:
            return False

    def _is_judged(self, row: Document) -> bool:
        """Whether it is an evaluation before the last, which comes with the trial's end and its test."""
        spec = self._spec
        last = row["epoch"] >= spec.epochs if spec.epochs is not None else row["step"] >= (spec.steps or 0)
        return self._order.metric in row and not last

    @property
    def _distributed(self) -> bool:
        return self._order.distributed

    def _drive(self) -> None:
        try:
            if not self._order.over:
                self._error = self._run.drive(self._group, self._take_over)
        finally:
            self._has_taken.set()

    def _take_over(self) -> None:
        mutation = self._order.mutation
        if mutation is not None:
            self._taken = {MUTATION: mutation["number"], TAKEN: take_over(self._record, mutation)}
            self._spec = self._record.spec()
        self._has_taken.set()

    def _group(self, settings: Settings, spec: TrainSpec) -> Group:
        if not self._distributed:
            return InProcess(self._goes_on)
        group = JoinedGroup(settings, spec)
        group.local = self._order.local
        return group
