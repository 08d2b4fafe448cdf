"""What `train` and `sweep` share: the request, its plan, its submission, and staying with it until its end."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from service import recipes, runs
from service.cli.completion import recipe_names, run_ids
from service.cli.console import print_json, print_yaml, say
from service.cli.follow import Interrupts, follow, make_display
from service.cli.options import AsJson, InsecureToken, StoreUrl
from service.cli.results import result_line
from service.cluster import open_cluster
from service.cluster.base import Cluster, Handle, Job
from service.errors import DelaylineError, InvalidInput
from service.recipes import sweeps as sweep_recipes
from service.records.answers import Run
from service.records.claim import Submission
from service.records.run_record import RunRecord
from service.settings import Settings
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec
from service.storage import open_store
from service.storage.base import Store
from service.submission.follower import RunFollower, StoppedAtOnce
from service.submission.plan import Plan, Request, plan
from service.submission.plan_sweep import plan_sweep
from service.submission.submit import replaces_spec, submit
from service.submission.supervisor import Supervisor, within

Changes = Annotated[
    list[str] | None, typer.Option("-s", "--set", metavar="KEY=VALUE", help="Change a key of the spec, such as -s epochs=3.")
]
Workers = Annotated[str | None, typer.Option(metavar="N", help="The number of workers, or a range such as 2-8.")]
Name = Annotated[
    str | None, typer.Option(metavar="ID", help="Its id; the same id again never trains twice.", autocompletion=run_ids)
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue what failed or was cancelled.")]
ClusterUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Where to run: http(s)://HOST:8265 or kube://NAMESPACE[/RAYCLUSTER]; without it Ray on this machine."
    ),
]
Pool = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Of a kube:// cluster's node pools, by its name in delayline-defaults. [DELAYLINE_POOL]"),
]
Detach = Annotated[bool, typer.Option("--detach", help="Return as soon as it is submitted.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print the plan and stop; for a kube:// cluster print the RayJob, and the plan beside it."),
]
Spec = Annotated[
    str | None,
    typer.Argument(metavar="SPEC", help="A recipe's name or a YAML file.", autocompletion=recipe_names),
]


SHOW_SECONDS = 0.2
"""For the document of a run that was stopped at once (derived: all that follows Ctrl-C is to take less than 2 s)."""


@dataclass(frozen=True)
class Typed:
    """What the user typed that makes the request for a run (`train`) or for a sweep."""

    kind: str
    spec: str | None
    overrides: list[str]
    workers: str | None
    name: str | None
    resume: bool

    @property
    def command(self) -> tuple[str, ...]:
        """The command that asks for the same again."""
        words = ["delayline", self.kind, *([self.spec] if self.spec else [])]
        words += [word for override in self.overrides for word in ("-s", override)]
        return (*words, *(("--workers", self.workers) if self.workers else ()))

    def request(self, store: Store, folder: Path) -> Request:
        """What that asks for; a run or a sweep that is resumed without a SPEC brings its own."""
        spec, stem = self._sweep(store, folder) if self.kind == "sweep" else self._run(store, folder)
        return Request(spec, stem, folder, self.name, self.resume, self.command)

    def _run(self, store: Store, folder: Path) -> tuple[TrainSpec, str]:
        if (record := self._resumed(store)) is not None:
            return recipes.change(record.spec(), self.overrides, self.workers), _stem(record)
        return recipes.resolve(self.spec or recipes.DEFAULT, self.overrides, self.workers, folder)

    def _sweep(self, store: Store, folder: Path) -> tuple[SweepSpec, str]:
        if (record := self._resumed(store)) is not None:
            return sweep_recipes.change(record.sweep_spec(), self.overrides, self.workers), _stem(record)
        return sweep_recipes.resolve(self.spec or sweep_recipes.DEFAULT, self.overrides, self.workers, folder)

    def _resumed(self, store: Store) -> RunRecord | None:
        if self.resume and not self.name:
            raise InvalidInput("--resume needs the id: give --name ID; `delayline runs list` shows them.")
        return RunRecord(store, str(self.name)) if self.resume and self.spec is None else None


def _stem(record: RunRecord) -> str:
    return record.submission().recipe or "run"


def command_for(kind: str) -> Callable[..., None]:
    """The function of `delayline train` or `delayline sweep`, which take the same options."""

    def command(
        spec: Spec = None,
        changes: Changes = None,
        workers: Workers = None,
        name: Name = None,
        resume: Resume = False,
        store: StoreUrl = None,
        cluster: ClusterUrl = None,
        pool: Pool = None,
        insecure_token: InsecureToken = False,
        detach: Detach = False,
        dry_run: DryRun = False,
        as_json: AsJson = False,
    ) -> None:
        typed = Typed(kind, spec, changes or [], workers, name, resume)
        settings = Settings.load(store=store, cluster=cluster, pool=pool, insecure_token=insecure_token or None)
        carry_out(typed, settings, detach=detach, dry_run=dry_run, as_json=as_json)

    return command


def carry_out(
    typed: Typed,
    settings: Settings,
    *,
    detach: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Plan what was typed, submit it, and stay with it until its end, unless it is to be shown alone, or detached."""
    place = open_cluster(settings)
    check_pool(settings, place)
    settings = place.client_settings(settings)
    opened = open_store(settings)
    if remark := place.remark():
        say(remark)
    make = plan_sweep if typed.kind == "sweep" else plan
    planned = make(typed.request(opened, Path.cwd()), settings, opened, place)
    if dry_run:
        show_plan(planned, place, opened, detach, as_json)
        return
    place.check_code(planned.job(planned.resume))
    # From the claim on, Ctrl-C must not leave a driver behind that nobody looks after.
    with Interrupts() as interrupts:
        submission = submit(planned, opened)
        if submission.remark:
            say(submission.remark)
        if detach:
            leave(planned, submission, place)
        else:
            stay(planned, submission, place, opened, interrupts, as_json)
    if as_json:
        print_json(runs.show(opened, planned.run_id).document())


def check_pool(settings: Settings, place: Cluster) -> None:
    """Raise InvalidInput where a pool is named and the cluster has none."""
    if settings.pool is not None and not place.keeps_drivers:
        raise InvalidInput(
            f"The pool {settings.pool!r} is one of a Kubernetes cluster's, and this runs on {place.description}: leave --pool and "
            f"DELAYLINE_POOL out, or give --cluster kube://NAMESPACE."
        )


def show_plan(planned: Plan, place: Cluster, store: Store, detach: bool, as_json: bool) -> None:
    """Print what would happen."""
    job = planned.job(planned.resume, replaces_spec(planned, store), supervised=detach or place.keeps_drivers)
    request = place.request(job)
    document = {**planned.document(), **request.document()}
    if (manifest := request.manifest_text()) is not None and not as_json:
        # What is applied later must find the user's code there.
        place.prepare(request)
        print_yaml({key: value for key, value in document.items() if key != "manifest"}, to_stderr=True)
        print(manifest, end="")
        return
    if as_json:
        print_json(document)
        return
    print_yaml(document)


def leave(planned: Plan, submission: Submission, place: Cluster) -> None:
    """Hand the run to a process of its own."""
    if submission.action == "start":
        place.start(place.request(planned.job(submission.resume, submission.changed, supervised=True)))
    words = {"start": "is on its way", "attach": "is under way already", "finished": "has succeeded already"}
    say(f"{planned.noun} {planned.run_id} {words[submission.action]}; look at it with: delayline runs watch {planned.run_id}")


def stay(planned: Plan, submission: Submission, place: Cluster, store: Store, interrupts: Interrupts, as_json: bool) -> None:
    """Stay with the run; with `as_json` its document is printed also when it ends by an error."""
    handle = place.find(planned.run_id) if submission.action == "attach" else None
    supervisor = supervise(planned, submission, place, store, handle) if handle or submission.action == "start" else None
    if submission.action != "finished":
        say(f"{planned.noun} {planned.run_id}: {planned.cluster}, store {planned.store_url}")
        display = make_display(planned.run_id, planned.kind)

        def take_over() -> Supervisor:
            return supervise(planned, Submission("start"), place, store)

        follower = RunFollower(
            store,
            planned.run_id,
            planned.noun,
            interrupts,
            display.note,
            supervisor,
            submission.earlier_end,
            planned.settings.store_patience,
            take_over,
        )
        try:
            follow(follower, display)
        except DelaylineError as error:
            if as_json:
                _print_document(store, planned.run_id, isinstance(error, StoppedAtOnce))
            raise
    if not as_json:
        print(result_line(runs.show(store, planned.run_id)))


def _print_document(store: Store, run_id: str, hurried: bool) -> None:
    """Print the run's document; for somebody in a hurry only if the store gives it at once."""
    found: list[Run] = []
    if not hurried:
        found.append(runs.show(store, run_id))
    else:
        within(SHOW_SECONDS, lambda: found.append(runs.show(store, run_id)))
    if found:
        print_json(found[0].document())


def supervise(planned: Plan, submission: Submission, place: Cluster, store: Store, handle: Handle | None = None) -> Supervisor:
    """Start the driver, unless `handle` is of one that lives, to be kept alive by this process."""

    def job_of(resume: bool) -> Job:
        return planned.job(resume, submission.changed, supervised=place.keeps_drivers)

    record = RunRecord(store, planned.run_id)
    return Supervisor(record, place, job_of, planned.retries, submission.resume, submission.earlier_end, handle)
