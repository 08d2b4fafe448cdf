"""What the entry points that drive have in common: their options, the lease, a claim, signals."""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from jobs.command_line import add_trust_folder
from jobs.driving.stops import SYSTEM_SECONDS, SignalWatch, Stops
from jobs.log_lines import say_aside
from jobs.worker_groups.ray_cluster import kill_local_ray
from jobs.worker_groups.ray_job import in_ray_job
from service.errors import DelaylineError, InfrastructureFailure
from service.machine import this_machine
from service.records import claim as claims
from service.records import user_package
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.records.schemas import RunState, StateDocument
from service.records.submission_schemas import Origin, SubmissionDocument
from service.settings import Settings
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec
from service.storage import open_store
from service.storage.base import Store
from service.sweeps.trials import goes_further
from service.until_killed import KILL_SECONDS, wait_until_killed
from service.user_folder import folder_of_modules, put_last

ATTACH_SECONDS = 1.0

Submit = Callable[[argparse.Namespace, Settings, Store], str]
Drive = Callable[[argparse.Namespace, RunRecord, SubmissionDocument, Settings, Lease], int]


def main(parser: argparse.ArgumentParser, argv: list[str], submit: Submit, drive: Drive) -> int:
    """Parse, drive or attach, and return the exit code."""
    arguments = parser.parse_args(argv)
    put_last()
    try:
        return take_and_drive(arguments, submit, drive)
    except DelaylineError as error:
        say_aside(f"Error: {error}")
        if arguments.debug:
            traceback.print_exc()
        return error.exit_code


def parser(verb: str, default: str) -> argparse.ArgumentParser:
    """The options of `delayline train` and `delayline sweep`, and those that a submitter passes."""
    noun = claims.NOUNS[verb]
    parser = argparse.ArgumentParser(
        prog=f"python -m jobs.{verb}", description=f"Do one {noun} on Ray, here or in the cluster that RAY_ADDRESS names."
    )
    parser.add_argument("spec", nargs="?", help=f"a recipe's name or a YAML file (default {default})")
    parser.add_argument(
        "-s", "--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the spec; KEY may be dotted"
    )
    parser.add_argument("--workers", help="a number, or a range such as 2-8")
    parser.add_argument("--name", help=f"the {noun}'s id")
    parser.add_argument("--resume", action="store_true", help=f"resume a failed or cancelled {noun}")
    parser.add_argument("--store", help="a folder, file:///folder or s3://bucket/prefix")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--run", help=f"drive this {noun}, which is in the store already")
    parser.add_argument("--folder", default=None, help=argparse.SUPPRESS)
    add_trust_folder(parser)
    parser.add_argument("--spec-changes", help=argparse.SUPPRESS)
    parser.add_argument("--lease-token", help=argparse.SUPPRESS)
    parser.set_defaults(kind=verb)
    return parser


def take_and_drive(arguments: argparse.Namespace, submit: Submit, drive: Drive) -> int:
    """Take the lease and drive; attach while somebody else does."""
    settings = Settings.load(store=arguments.store)
    # Who submits or supervises a driver passes the user's folder.
    alone = arguments.folder is None
    store = open_store(settings, patience=settings.store_patience)
    # The workers stand in other folders, from which a relative path would lead elsewhere.
    settings = settings.model_copy(update={"store": store.url})
    run_id = arguments.run or submit(arguments, settings, store)
    record = RunRecord(store, run_id)
    submission = record.submission()
    claims.check_kind(run_id, submission, arguments.kind, "--run")
    noun = claims.NOUNS[arguments.kind]
    lease = Lease(record, token=arguments.lease_token) if arguments.lease_token else Lease(record)
    said: str = ""
    while not lease.acquire():
        state = record.state()
        if state.state != said:
            said = state.state
            say_aside(f"{noun} {run_id} is driven by another process; it is {said}")
        time.sleep(ATTACH_SECONDS)
    try:
        state = record.state()
        over = state.is_ended and not (arguments.resume and _goes_on(arguments, record, submission, state))
        arguments.folder = arguments.folder or ("" if over else _folder(arguments, record, submission))
        if not over:
            user_package.check(store, arguments.folder)
    except BaseException:
        lease.release()
        raise
    if over:
        lease.release()
        return report_end(run_id, noun, state, arguments.resume)
    code = drive(arguments, record, submission, settings, lease)
    if alone and settings.in_job_of_kubernetes and code == InfrastructureFailure.exit_code and record.state().was_interrupted:
        wait_until_killed(say_aside)
    return code


def _folder(arguments: argparse.Namespace, record: RunRecord, submission: SubmissionDocument) -> str:
    """Where the run's own modules are imported from; raise InvalidInput where that is another folder than it was submitted in."""
    here = str(Path.cwd())
    if submission.folder == here:
        return here
    return folder_of_modules(record.run_id, submission.spec, submission.folder, arguments.trust_folder)


def _goes_on(arguments: argparse.Namespace, record: RunRecord, submission: SubmissionDocument, state: StateDocument) -> bool:
    """Whether there is more to do for a run that has ended: it failed or was cancelled, or it is a sweep that goes further."""
    if state.state != RunState.SUCCEEDED or not submission.is_sweep:
        return state.state != RunState.SUCCEEDED
    values = json.loads(arguments.spec_changes) if arguments.spec_changes else submission.spec
    return goes_further(record, SweepSpec.model_validate(values))


def claim(
    arguments: argparse.Namespace, record: RunRecord, spec: TrainSpec | SweepSpec, stem: str, check: Callable[[], Origin]
) -> str:
    """Claim an id for a spec as `delayline` does, or find the run that has this id and spec; return the id.

    `check` looks at what is new before it is claimed: it raises InvalidInput, or gives what is known of the run's origin.
    """

    def origin() -> Origin:
        command = ("python", "-m", f"jobs.{Path(sys.argv[0]).stem}", *sys.argv[1:])
        return check().changed(recipe=stem, command=command, folder=str(Path.cwd()))

    submission = claims.claim(record, spec, origin, resume=arguments.resume, goes_further=goes_further)
    if submission.remark:
        say_aside(submission.remark)
    if submission.changed:
        arguments.spec_changes = json.dumps(spec.document())
    say_aside(f"{claims.NOUNS[arguments.kind]} {record.run_id}")
    return record.run_id


def check_machine(settings: Settings, spec: TrainSpec) -> None:
    """The fewest workers must fit on this machine; a cluster that exists already may grow."""
    if settings.ray_address in (None, "local"):
        this_machine().check(spec.worker_counts[-1], spec.worker)


def report_end(run_id: str, noun: str, state: StateDocument, resume: bool) -> int:
    """Say how a run ended that is over already, and return the exit code that it ended with."""
    if state.state != RunState.SUCCEEDED and not resume:
        say_aside(claims.how_to_resume(run_id, noun, state.state))
    else:
        say_aside(f"{noun} {run_id} {state.state}: {json.dumps(state.metrics)}")
    return state.exit_code or 0


def listen(record: RunRecord, settings: Settings) -> Stops:
    """Let SIGINT and SIGTERM ask the run to save and stop from now on; a second signal ends this process at once."""

    def clean_up() -> None:
        if settings.ray_address in (None, "local"):
            kill_local_ray()

    # A job of Kubernetes does not end by itself when it is stopped.
    limit = KILL_SECONDS if settings.in_job_of_kubernetes else SYSTEM_SECONDS
    return SignalWatch(record, say_aside, clean_up, in_ray_job(), limit).listen()
