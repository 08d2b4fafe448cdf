"""The trials of one sweep: which there are, which wait, what came of them. A new driver resumes from what the store says."""

import json
from collections.abc import Callable, Sequence

from jobs.sweeps.search import Proposer
from service.errors import InvalidInput
from service.names import trial_id
from service.records.run_record import Document, RunRecord
from service.records.submission_schemas import Origin
from service.records.sweep_schemas import Mutation, Stopped, Trial
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec
from service.sweeps.grouping import group_key
from service.sweeps.points import MOST_POINTS, UNBOUNDED, Params, Point, Points
from service.sweeps.trials import BUDGET, OVER, trial_rows, value_of

MOST_LEFT_OUT = 1000
"""Drawn points in a row (assumed: who draws so many in vain means another space)."""


class TrialTable:
    """`trials`: all that were claimed, as they stand in the sweep's record; `waiting`: those to be handed out next."""

    def __init__(self, record: RunRecord, spec: SweepSpec, tell: Callable[[str], None]) -> None:
        self.trials: list[Trial] = []
        self.waiting: list[Trial] = []
        self.over: set[str] = set()
        """Those of earlier drivers that are not resumed; among `waiting` they are only reported to the scheduler once more."""
        self._left_out = 0
        self._record = record
        self._spec = spec
        self._tell = tell
        self._proposer = Proposer(spec)
        self._points = Points(spec)
        self._values: dict[int, dict[str, float | None]] = {}
        self._keys: dict[str, str | None] = {}

    @property
    def total(self) -> int:
        """How many trials there will be, seeds counted, unless the sweep is stopped."""
        count = self._points.count
        return (count if count >= UNBOUNDED else count - self._left_out) * self._spec.seeds

    @property
    def left(self) -> int:
        """How many trials are still to be handed out."""
        return self.total - len(self.trials) + len(self.waiting)

    def first(self) -> TrainSpec:
        """The spec of a trial that tells what each takes."""
        point = self._points.first() if self._spec.search != "tpe" else next(self._points.corners())
        return self._points.spec(point)

    def recall(self, has_time: bool) -> int:
        """Read what earlier drivers of this sweep began; return how many trials are over.

        `has_time`: those that an earlier budget stopped are resumed.
        """
        self.trials = [
            trial.without("stopped") if has_time and trial.stopped and trial.stopped.by == BUDGET else trial
            for trial in self._record.take_trials()
        ]
        again, unended = [], []
        for trial, row in zip(self.trials, trial_rows(self._record.store, self.trials), strict=True):
            self._proposer.known(_point(trial))
            if row.state in OVER and not row.was_lost:
                self.over.add(trial.id)
                self.note_value(trial, value_of(row, self._spec.metric))
                again.append(trial)
            else:
                unended.append(trial)
        self.waiting = [*(again if self._spec.scheduler.learns_again else []), *unended]
        numbers = {trial.point for trial in self.trials}
        self._left_out = max(numbers, default=-1) + 1 - len(numbers)
        self._complete_points()
        if self.trials:
            self._record.write_trials(self.trials)
        return len(self.over)

    @property
    def due(self) -> set[str]:
        """The ids of those that wait and are not over."""
        return {trial.id for trial in self.waiting} - self.over

    def take(self) -> Trial | None:
        """The next trial, or None after the last."""
        if not self.waiting and not self._propose():
            return None
        return self.waiting.pop(0)

    def take_group(self, most: int) -> list[Trial]:
        """The next trial and those that may train together with it, `most` in all at most; empty after the last.

        Points are proposed until there are enough, or for TPE, which learns from each, none.
        """
        first = self.take()
        key = None if first is None or most < 2 else self._group_key(first)
        if first is None or key is None:
            return [] if first is None else [first]
        group, passed = [first], 0
        while len(group) < most and passed <= most:
            if passed == len(self.waiting) and (self._spec.search == "tpe" or not self._propose()):
                break
            if self._group_key(self.waiting[passed]) == key:
                group.append(self.waiting.pop(passed))
            else:
                passed += 1
        return group

    def _group_key(self, trial: Trial) -> str | None:
        """See service.sweeps.grouping."""
        if trial.id not in self._keys:
            self._keys[trial.id] = group_key(self._points.spec(_point(trial), trial.seed))
        return self._keys[trial.id]

    def find(self, run_id: str) -> Trial:
        """The trial whose run this is."""
        return next(trial for trial in self.trials if trial.id == run_id)

    def _replace(self, *changed: Trial) -> None:
        """Let trials stand as they have changed, and write all of them."""
        new = {trial.id: trial for trial in changed}
        self.trials = [new.get(trial.id, trial) for trial in self.trials]
        self.waiting = [new.get(trial.id, trial) for trial in self.waiting]
        self._record.write_trials(self.trials)

    def note_value(self, trial: Trial, value: object) -> None:
        """The metric of a trial that is over, None without one; the search is given a point once all its seeds are."""
        values = self._values.setdefault(trial.point, {})
        if trial.id not in values:
            values[trial.id] = float(value) if isinstance(value, int | float) else None
            if len(values) == self._spec.seeds:
                self._proposer.tell(_point(trial), [each for each in values.values() if each is not None])

    def note_stop(self, trials: Sequence[Trial], why: Stopped) -> None:
        """Why trials end early; of one that is ending already the first reason stands."""
        self._replace(*(trial.changed(stopped=why) for trial in trials if trial.stopped is None))

    def mutate(self, trial: Trial, donor: Trial, step: int, params: Params) -> Trial:
        """Note that a trial takes another one's weights of `step` and resumes with `params`, expressions worked out anew; return it.

        Where these make no spec it resumes with the other one's.
        """
        chosen = {key: value for key, value in params.items() if self._spec.space[key].expression is None}
        try:
            point = self._points.complete(trial.point, trial.base, chosen)
            self._points.spec(point)
        except InvalidInput:
            point = _point(donor)
        new = plain(point.params)
        changed = trial.changed(
            params=new,
            first_params=trial.params if trial.first_params is None else trial.first_params,
            mutations=(*trial.mutations, Mutation(step=step, donor=donor.id, params=new)),
        )
        self._replace(changed)
        return changed

    def note_taken(self, trial: Trial, number: int, step: int | None) -> None:
        """The step of the checkpoint that a trial took by a mutation: a later one where the first was pruned."""
        mutation = trial.mutations[number - 1]
        if mutation.step != step:
            before, after = trial.mutations[: number - 1], trial.mutations[number:]
            self._replace(trial.changed(mutations=(*before, mutation.changed(step=step), *after)))

    def note_pause(self, trial: Trial) -> None:
        """A trial makes room for others and resumes later."""
        if not trial.pauses:
            self._replace(trial.changed(pauses=True))

    def note_turn(self, trial: Trial) -> None:
        """A trial that had paused resumes."""
        if trial.pauses:
            self._replace(trial.without("pauses"))

    def end_pauses(self) -> None:
        """No trial resumes later any more: those that paused are cancelled."""
        self._replace(*(trial.without("pauses") for trial in self.trials if trial.pauses))

    def mutation(self, trial: Trial) -> Document | None:
        """A trial's newest mutation, as its process gets it; None without one."""
        if not trial.mutations:
            return None
        spec = self._points.spec(_point(trial), trial.seed).document()
        return {"number": len(trial.mutations), **trial.mutations[-1].document(), "spec": spec}

    def _complete_points(self) -> None:
        """Add the seeds of a point between which its driver was killed."""
        for number in sorted({trial.point for trial in self.trials}):
            members = [trial for trial in self.trials if trial.point == number]
            missing = set(range(self._spec.seeds)) - {trial.seed for trial in members}
            self.waiting += [self._add(_point(members[0]), seed) for seed in sorted(missing)]

    def _propose(self) -> bool:
        """Add the trials of another point, one for each seed; whether there was another.

        A point whose values make no spec together is left out. Raise InvalidInput where too many are, or all.
        """
        first, reasons = self._proposer.proposed, list[InvalidInput]()
        while len(reasons) < (MOST_LEFT_OUT if self._spec.is_drawn else MOST_POINTS):
            try:
                point = self._proposer.propose()
                if point is not None:
                    self._points.spec(point, self._spec.seeds - 1)
            except InvalidInput as error:
                reasons.append(error)
                continue
            self._note_left_out(first, reasons)
            if point is None:
                if reasons and not self.trials:
                    raise reasons[0]
                return False
            self.waiting += [self._add(point, seed) for seed in range(self._spec.seeds)]
            self._record.write_trials(self.trials)
            return True
        raise InvalidInput(f"{len(reasons)} points in a row make no spec; of the last one: {reasons[-1]}")

    def _note_left_out(self, first: int, reasons: Sequence[InvalidInput]) -> None:
        """Of these points, which follow each other."""
        self._left_out += len(reasons)
        if len(reasons) == 1:
            self._tell(f"point {first} is left out: {reasons[0]}")
        elif reasons:
            self._tell(f"{len(reasons)} points from {first} on are left out, the first because: {reasons[0]}")

    def _add(self, point: Point, seed: int) -> Trial:
        """Claim the run of a trial and note it."""
        number = len(self.trials)
        trial = Trial(
            id=trial_id(self._record.run_id, number),
            number=number,
            point=point.number,
            base=point.base,
            params=plain(point.params),
            seed=seed,
        )
        spec = self._points.spec(point, seed)
        run = RunRecord(self._record.store, trial.id)
        run.guard = self._record.guard
        self._claim(run, spec, self._origin(trial, spec))
        self.trials.append(trial)
        return trial

    def _claim(self, run: RunRecord, spec: TrainSpec, origin: Origin) -> None:
        """Make the trial's run; one that a driver claimed which was killed before it noted the trial gets this spec.

        Raise InvalidInput where the id belongs to a run of its own.
        """
        if run.claim(spec, origin):
            return
        submission = run.submission()
        if submission.sweep != self._record.run_id:
            raise InvalidInput(
                f"The id {run.run_id!r} of the next trial belongs to a run that is no trial of this sweep: "
                f"sweep under another --name, or delete that run."
            )
        if submission.spec != spec.document():
            run.replace_spec(spec, origin)

    def _origin(self, trial: Trial, spec: TrainSpec) -> Origin:
        submission = self._record.submission()
        origin = Origin(
            recipe=submission.recipe,
            command=submission.command,
            folder=submission.folder,
            sweep=self._record.run_id,
            point=trial.point,
            params=trial.params,
        )
        same_data = spec.dataset == str(self._spec.base[0].values.get("dataset"))
        return origin.changed(dataset_version=submission.dataset_version) if same_data else origin


def _point(trial: Trial) -> Point:
    return Point(trial.point, trial.base, trial.params)


def plain(params: Params) -> Params:
    """As JSON gives them back."""
    found: Params = json.loads(json.dumps(params))
    return found
