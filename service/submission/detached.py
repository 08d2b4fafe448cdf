"""Supervises a run's driver after `delayline train --detach`: `python -m service.submission.detached --run ID …`.

It runs where the driver runs: on this machine, or in the cluster as the job's own process.
"""

import argparse
import contextlib
import json
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType

from service.cluster import open_cluster
from service.cluster.driver_jobs import DRIVERS, driver_job, unpacked
from service.errors import DelaylineError, InfrastructureFailure, InvalidInput, StoreError
from service.records import claim as claims
from service.records import user_package
from service.records.run_record import RunRecord
from service.records.submission_schemas import Origin
from service.settings import Settings
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec
from service.storage import open_store
from service.submission.supervisor import Supervisor
from service.until_killed import wait_until_killed

POLL_SECONDS = 0.5
SAVE_SECONDS = 26.0
"""For a driver to save once the system stops it (derived: it ends after 25 s whatever happens)."""


def main(argv: list[str]) -> int:
    """Supervise until the run has ended; return the driver's exit code."""
    options = parser().parse_args(argv)
    settings = Settings.load(store=options.store)
    record = RunRecord(open_store(settings), options.run)
    try:
        if options.submission:
            claim(options, record)
        return supervise(options, settings, record, Termination().listen())
    except InvalidInput as error:
        # Whoever reads what this process printed is to see it: there may be no run in the store that could hold it.
        print(f"Error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except Exception as error:
        # No terminal shows what this process prints: it goes to the store.
        with contextlib.suppress(StoreError):
            record.store.write(f"{record.paths.logs}supervisor.log", traceback.format_exc().encode())
        return error.exit_code if isinstance(error, DelaylineError) else DelaylineError.exit_code


def claim(options: argparse.Namespace, record: RunRecord) -> None:
    """Claim the run's id as the one who submitted would have, or find it claimed; raise InvalidInput where it is another spec's."""
    submission = json.loads(unpacked(options.submission))
    if options.changed:
        options.spec_changes = json.dumps(submission["spec"])
    spec = (SweepSpec if submission["kind"] == "sweep" else TrainSpec).model_validate(submission["spec"])
    if record.store.exists(record.paths.spec) or not record.claim(spec, Origin.model_validate(submission["origin"])):
        if not options.spec_changes:
            claims.check_spec(record, spec, options.resume)
    elif user_package.is_package(options.folder):
        user_package.refer(record.store, record.run_id, options.folder)


class Termination:
    """Keeps in `asked` whether SIGTERM came; the system sends it, or `ray job stop`: the driver finds out which."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> "Termination":
        """Install the handler; this must be the main thread."""
        signal.signal(signal.SIGTERM, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def parser() -> argparse.ArgumentParser:
    """The options of the driver that it starts, and the number of retries."""
    parser = argparse.ArgumentParser(prog="python -m service.submission.detached")
    parser.add_argument("--kind", choices=sorted(DRIVERS), default="train")
    parser.add_argument("--run", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--spec-changes")
    parser.add_argument("--submission", help="what the run is; by it the id is claimed where nobody has")
    parser.add_argument("--changed", action="store_true", help="its spec replaces the one that the run has")
    parser.add_argument("--retries", type=int, required=True)
    return parser


def supervise(options: argparse.Namespace, settings: Settings, record: RunRecord, termination: Termination) -> int:
    """Start the driver and keep it alive; once the system stops this process, only until it has saved.

    As a job in Kubernetes this process then stays until it is killed.
    """
    state = record.state()
    earlier_end = state.finished if state.is_ended else None
    supervisor = Supervisor(
        record,
        open_cluster(settings),
        lambda resume: driver_job(
            settings, options.kind, options.run, options.store, Path(options.folder), resume, options.spec_changes
        ),
        retries=options.retries,
        resume=options.resume,
        earlier_end=earlier_end,
        leaves_interrupted=settings.in_job_of_kubernetes,
    )
    code = follow(supervisor, termination)
    if settings.in_job_of_kubernetes and code == InfrastructureFailure.exit_code and was_stopped(record, termination):
        wait_until_killed(say)
    return code


def follow(supervisor: Supervisor, termination: Termination) -> int:
    """Wait for the end of the last driver; return its exit code."""
    deadline: float | None = None
    while (code := supervisor.poll()) is None:
        if termination.asked and deadline is None:
            deadline = time.monotonic() + (SAVE_SECONDS if supervisor.interrupt() else 0.0)
        if deadline is not None and time.monotonic() > deadline:
            return InfrastructureFailure.exit_code
        time.sleep(POLL_SECONDS)
    return code


def was_stopped(record: RunRecord, termination: Termination) -> bool:
    """Whether the system stopped the driver or this process before the run's end."""
    try:
        state = record.state()
    except StoreError:
        return termination.asked
    return state.was_interrupted or (termination.asked and not state.is_ended)


def say(message: str) -> None:
    """Print a line to the job's log."""
    print(message, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
