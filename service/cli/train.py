"""`delayline train`: plan a run, submit it, stay with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from service import recipes, runs
from service.cli.completion import recipe_names, run_ids
from service.cli.console import print_json, say
from service.cli.display import make_display
from service.cli.follow import Companion, Interrupts, result_line
from service.cli.options import AsJson, StoreUrl
from service.cluster import open_cluster
from service.cluster.base import Cluster, Handle, Job
from service.cluster.local_ray import supervisor_job
from service.cluster.supervisor import Supervisor
from service.errors import DelaylineError, InvalidInput
from service.settings import Settings
from service.specs import TrainSpec
from service.storage import open_store
from service.storage.base import Store
from service.storage.records import RunRecord
from service.submit import Plan, Submission, plan, submit

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@dataclass(frozen=True)
class Request:
    """What the user typed that makes the spec."""

    spec: str | None
    overrides: list[str]
    workers: str | None
    name: str | None
    resume: bool

    @property
    def command(self) -> tuple[str, ...]:
        """The command that asks for the same run again."""
        words = ["delayline", "train", *([self.spec] if self.spec else [])]
        words += [word for override in self.overrides for word in ("-s", override)]
        return (*words, *(("--workers", self.workers) if self.workers else ()))

    def resolve(self, store: Store, folder: Path) -> tuple[TrainSpec, str]:
        """The spec and the stem of the run's id; a run that is resumed without a SPEC brings its own."""
        if self.resume and not self.name:
            raise InvalidInput("--resume needs the run's id: give --name ID; `delayline runs list` shows them.")
        if self.resume and self.spec is None:
            record = RunRecord(store, str(self.name))
            return recipes.change(record.spec(), self.overrides, self.workers), str(record.submission().get("recipe") or "run")
        return recipes.resolve(self.spec or recipes.DEFAULT, self.overrides, self.workers, folder)


@app.command()
def train(
    spec: Annotated[
        str | None,
        typer.Argument(metavar="SPEC", help="A recipe's name or a YAML file (default cnn-digits).", autocompletion=recipe_names),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("-s", "--set", metavar="KEY=VALUE", help="Change a key of the spec, such as -s epochs=3.")
    ] = None,
    workers: Annotated[str | None, typer.Option(metavar="N", help="The number of workers, or a range such as 2-8.")] = None,
    name: Annotated[
        str | None, typer.Option(metavar="ID", help="The run's id; the same id again never trains twice.", autocompletion=run_ids)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a failed or cancelled run.")] = False,
    store: StoreUrl = None,
    cluster: Annotated[str | None, typer.Option(metavar="URL", help="Where to run; without it Ray on this machine.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return as soon as the run is submitted.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a network on any number of workers, and stay with the run until its end.

    Ctrl-C saves a checkpoint and cancels the run; Ctrl-C again stops it at once.
    """
    request = Request(spec, changes or [], workers, name, resume)
    settings = Settings.load(store=store, cluster=cluster)
    folder = Path.cwd()
    place, opened = open_cluster(settings), open_store(settings)
    chosen, stem = request.resolve(opened, folder)
    planned = plan(chosen, settings, opened, place, stem=stem, folder=folder, run_id=name, resume=resume, command=request.command)
    if dry_run:
        show_plan(planned, place, as_json)
        return
    # From the claim on, Ctrl-C must not leave a driver behind that nobody looks after.
    with Interrupts() as interrupts:
        submission = submit(planned, opened)
        if detach:
            leave(planned, submission, place)
        else:
            stay(planned, submission, place, opened, interrupts, as_json)
    if as_json:
        print_json(runs.show(opened, planned.run_id))


def show_plan(planned: Plan, place: Cluster, as_json: bool) -> None:
    """Print what would happen."""
    document = {**planned.document(), **place.preview(planned.job(planned.resume))}
    if as_json:
        print_json(document)
        return
    import yaml

    print(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120).rstrip())


def leave(planned: Plan, submission: Submission, place: Cluster) -> None:
    """Hand the run to a process of its own."""
    if submission.action == "start":
        place.start(supervisor_job(planned.job(submission.resume, submission.changed), planned.spec.retries))
    words = {"start": "is on its way", "attach": "is under way already", "finished": "has succeeded already"}
    say(f"run {planned.run_id} {words[submission.action]}; look at it with: delayline runs watch {planned.run_id}")


def stay(planned: Plan, submission: Submission, place: Cluster, store: Store, interrupts: Interrupts, as_json: bool) -> None:
    """Stay with the run; with `as_json` its document is printed also when it ends by an error."""
    handle = place.find(planned.run_id) if submission.action == "attach" else None
    supervisor = supervise(planned, submission, place, store, handle) if handle or submission.action == "start" else None
    if submission.action != "finished":
        say(f"run {planned.run_id}: {planned.cluster}, store {planned.store_url}")
        display, patience = make_display(planned.run_id), planned.settings.store_patience

        def take_over() -> Supervisor:
            return supervise(planned, Submission("start"), place, store)

        try:
            Companion(store, planned.run_id, display, interrupts, supervisor, submission.earlier_end, patience, take_over).stay()
        except DelaylineError:
            if as_json:
                print_json(runs.show(store, planned.run_id))
            raise
    if not as_json:
        print(result_line(runs.show(store, planned.run_id)))


def supervise(planned: Plan, submission: Submission, place: Cluster, store: Store, handle: Handle | None = None) -> Supervisor:
    """Start the driver, unless `handle` is of one that lives, to be kept alive by this process."""

    def job_of(resume: bool) -> Job:
        return planned.job(resume, submission.changed)

    record = RunRecord(store, planned.run_id)
    return Supervisor(record, place, job_of, planned.spec.retries, submission.resume, submission.earlier_end, handle)
