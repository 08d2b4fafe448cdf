"""One trial of a sweep in a process of Ray Tune: a run that is driven here, warm for the next one, reported to Tune as it goes."""

import gc
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from queue import Empty, Queue
from typing import Any

from ray import tune

from jobs.company_trial import CompanyTrial
from jobs.groups import Group, InProcess
from jobs.trial_runs import EVALUATION, LOOK_SECONDS, OVER, TrialRun
from jobs.worker_group import DRIVER_CPUS, WorkerGroup
from service.errors import DelaylineError
from service.settings import Settings
from service.specs import TrainSpec
from service.storage import open_store
from service.storage.records import Document, RunRecord


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

    def setup(self, config: dict[str, Any]) -> None:
        """Begin with the first trial."""
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go over to another trial."""
        self.cleanup()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The next report of the trial."""
        return next(self._reports)

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Nothing: the trial's run has checkpoints of its own."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: a run goes on from its own checkpoint."""

    def cleanup(self) -> None:
        """Let a trial that is not at its end save and stop."""
        self._trial.stop()
        gc.collect()

    def _begin(self, config: dict[str, Any]) -> None:
        order = TrialOrder(**config["order"])
        self._trial = CompanyTrial(order.runs()) if order.companions else Trial(order)
        self._reports = self._trial.reports()


class Trial:
    """Drives one run in a thread. With `by_evaluation` the run waits at each evaluation until Tune wants the next one."""

    def __init__(self, order: TrialOrder) -> None:
        (self._run,) = order.runs()
        self._order = order
        self._record = self._run.record
        self._spec = self._record.spec()
        self._error: DelaylineError | None = None
        self._rows: Queue[Document] = Queue()
        self._wanted = threading.Semaphore(0)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._drive, name=order.id, daemon=True)
        self._thread.start()

    def reports(self) -> Iterator[dict[str, Any]]:
        """What Tune is told: each evaluation if wanted, then the end, `done`; raise InfrastructureFailure for a lost lease."""
        number = 0
        for number, row in enumerate(self._evaluations() if self._order.by_evaluation else (), 1):
            yield {self._order.metric: row[self._order.metric], EVALUATION: number}
        self._thread.join()
        if self._error is not None:
            raise self._error
        state = self._record.state()
        value = state.get("metrics", {}).get(self._order.metric)
        found = {} if value is None or state["state"] == "failed" else {self._order.metric: value}
        yield {**found, EVALUATION: number + 1, OVER: True, "done": True}

    def stop(self) -> None:
        """Ask the run to save and stop, and wait for it."""
        self._stopped.set()
        while self._thread.is_alive():
            self._wanted.release()
            if not self._record.cancel_requested():
                self._record.request_cancel()
            self._thread.join(LOOK_SECONDS)

    def _evaluations(self) -> Iterator[Document]:
        """The rows with the metric: those of earlier attempts, then those to come, until the run's end."""
        told = 0
        for row in self._record.history():
            if self._is_judged(row):
                told = max(told, int(row["step"]))
                yield row
        while self._thread.is_alive() or not self._rows.empty():
            if self._distributed:
                time.sleep(LOOK_SECONDS)
                rows = [row for row in self._record.history() if self._is_judged(row) and int(row["step"]) > told]
            else:
                rows = self._handed_over(told)
            for row in rows:
                told = int(row["step"])
                yield row
                # The next one is wanted: the training that waits goes on.
                if not self._distributed:
                    self._wanted.release()

    def _handed_over(self, told: int) -> list[Document]:
        try:
            row = self._rows.get(timeout=LOOK_SECONDS)
        except Empty:
            return []
        if int(row["step"]) > told:
            return [row]
        self._wanted.release()
        return []

    def _goes_on(self, row: Document) -> bool:
        """In the training's thread: hand an evaluation over, and wait until Tune has judged it."""
        if self._order.by_evaluation and self._is_judged(row) and not self._stopped.is_set():
            self._rows.put(row)
            self._wanted.acquire()
        return not self._stopped.is_set()

    def _is_judged(self, row: Document) -> bool:
        """Whether it is an evaluation before the last, which comes with the trial's end and its test."""
        spec = self._spec
        last = row["epoch"] >= spec.epochs if spec.epochs is not None else row["step"] >= (spec.steps or 0)
        return self._order.metric in row and not last

    @property
    def _distributed(self) -> bool:
        return self._order.distributed

    def _drive(self) -> None:
        self._error = self._run.drive(self._group)

    def _group(self, settings: Settings, spec: TrainSpec) -> Group:
        if not self._distributed:
            return InProcess(self._goes_on)
        group = JoinedGroup(settings, spec)
        group.local = self._order.local
        return group
