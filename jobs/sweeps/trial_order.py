"""What a sweep tells a process of Tune about a trial."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from jobs.sweeps.trial_run import TrialRun
from service.records.run_record import Document, RunRecord
from service.settings import Settings
from service.storage import open_store


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
    """Only report; do not train."""
    mutation: Document | None
    """Of PBT, the newest: what the run takes over before it resumes, unless it has done so; see jobs.sweeps.exploit."""
    distributed: bool
    local: bool
    environment: Mapping[str, str]
    others: tuple[str, ...] = ()
    """The runs that train together with this one."""

    def enter_environment(self) -> None:
        """Give this process, and those that it starts, the sweep's settings; credentials stay those of its own environment."""
        os.environ.update(self.environment)

    def runs(self) -> list[TrialRun]:
        """This trial's run and those that train together with it, by the settings of this process."""
        settings = Settings.load(store=self.store)
        store = open_store(settings, patience=settings.store_patience)
        return [TrialRun(RunRecord(store, run_id), self.sweep, settings, self.folder) for run_id in (self.id, *self.others)]
