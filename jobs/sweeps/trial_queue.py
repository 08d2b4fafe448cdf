"""What Ray Tune is given for a sweep: the queue of its trials, and the scheduler that stops some of them early."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import Searcher

from jobs.sweeps.population import Members, Population
from jobs.sweeps.trial_run import EVALUATION
from service.records.run_record import Document
from service.specs.sweep import SweepSpec

ENDLESS = 2**31
"""Evaluations."""


class Trials(Members, Protocol):
    """The trials as the sweep's driver hands them out."""

    def take(self) -> Mapping[str, Any] | None:
        """The order of the next trial; None once no more begin."""

    def ended(self, run_id: str, result: Document | None) -> None:
        """Take a trial's end: its last result, or None where its process was lost too often."""


def make_scheduler(sweep: SweepSpec, members: Members, parallel: int) -> TrialScheduler:
    """Tune's scheduler; `members`: the trials, of which `parallel` run at a time."""
    policy = sweep.scheduler
    if policy.name == "pbt":
        return Population(sweep, members, parallel)
    if policy.name == "asha":
        return ASHAScheduler(
            time_attr=EVALUATION,
            # Beyond any trial, whose epochs may differ: at the last one it ends by itself, with its test.
            max_t=ENDLESS,
            grace_period=policy.grace_epochs,
            reduction_factor=policy.reduction,
        )
    if policy.name == "median":
        # Without an endless slice of time it pauses trials for others to catch up, and each pause is a restart.
        return Median(time_attr=EVALUATION, grace_period=policy.grace_epochs, min_samples_required=3, min_time_slice=math.inf)
    return FIFOScheduler()


class Median(MedianStoppingRule):
    """Tune's rule, to which a trial that begins in another process may report its evaluations once more."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Evaluates a trial by an evaluation that is new."""
        if self._knows(trial, result):
            return str(TrialScheduler.CONTINUE)
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Keep a trial's last evaluation; of one that was stopped that is known, and one that failed has none."""
        if self._metric in result and not self._knows(trial, result):
            super().on_trial_complete(tune_controller, trial, result)

    def _knows(self, trial: Any, result: dict[str, Any]) -> bool:
        known = self._results.get(trial)
        return bool(known) and bool(result[EVALUATION] <= known[-1][EVALUATION])


class TrialQueue(Searcher):
    """Tune's search algorithm: hands out the trials that `take` gives, until it gives None.

    `pauses`: trials may pause, whose processes Tune keeps only as long as there may be one more trial, until all have ended.
    """

    def __init__(
        self, take: Callable[[], Mapping[str, Any] | None], ended: Callable[[str, Document | None], None], pauses: bool = False
    ) -> None:
        super().__init__()
        self._take = take
        self._ended = ended
        self._pauses = pauses
        self._runs: dict[str, str] = {}
        self._under_way: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next trial's config; `order.id` is its run."""
        order = self._take()
        if order is None and self._pauses and self._under_way:
            return None
        if order is None:
            finished: Any = Searcher.FINISHED
            return finished  # type: ignore[no-any-return]
        self._runs[trial_id] = order["id"]
        self._under_way.add(trial_id)
        return {"order": dict(order)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial ended, by itself or by the scheduler, or its process was lost too often."""
        self._under_way.discard(trial_id)
        self._ended(self._runs[trial_id], None if error else result)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its experiment, which nobody reads: the sweep keeps its own table of trials."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """The sweep keeps its own table of trials."""

    def restore(self, checkpoint_path: str) -> None:
        """The sweep keeps its own table of trials."""
