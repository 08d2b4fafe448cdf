"""Train one run: `python -m jobs.train SPEC` or `--run ID`, on this machine or inside a Ray job.

Exit codes: 0 succeeded, 2 invalid input, 3 the user's code or data failed, 4 infrastructure failed, 5 the store
cannot be reached or refuses, 130 cancelled.
"""

import argparse
import json
import sys
from pathlib import Path

from jobs.driving import entry as driving
from jobs.driving.driver import Driver
from jobs.log_lines import say_aside
from service.checks.train import check_dataset, check_names, check_stopping
from service.names import check_run_id, new_run_id
from service.recipes import DEFAULT, resolve
from service.records.first_weights import origin_of_weights
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.records.submission_schemas import Origin, SubmissionDocument
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage.base import Store


def main(argv: list[str]) -> int:
    """Parse, drive or attach, and return the exit code."""
    return driving.main(driving.parser("train", DEFAULT), argv, submit, drive)


def drive(
    arguments: argparse.Namespace, record: RunRecord, submission: SubmissionDocument, settings: Settings, lease: Lease
) -> int:
    """Drive a run whose lease is held."""
    spec = TrainSpec.model_validate(json.loads(arguments.spec_changes) if arguments.spec_changes else submission.spec)
    stops = driving.listen(record, settings)
    return Driver(
        record=record,
        spec=spec,
        settings=settings,
        lease=lease,
        folder=arguments.folder,
        fresh_budget=arguments.resume,
        say=say_aside,
        stops=stops,
    ).run()


def submit(arguments: argparse.Namespace, settings: Settings, store: Store) -> str:
    """Claim a run for the spec on the command line, or find the one that has its id; return the id."""
    spec, stem = resolve(arguments.spec or DEFAULT, arguments.set, arguments.workers, Path.cwd())
    record = RunRecord(store, check_run_id(arguments.name) if arguments.name is not None else new_run_id(stem))
    return driving.claim(arguments, record, spec, stem, lambda: check(record, spec, settings))


def check(record: RunRecord, spec: TrainSpec, settings: Settings) -> Origin:
    """Check a run that is new as the plan of `delayline train` does; return what is known of its origin."""
    check_names(spec, Path.cwd())
    check_stopping(spec)
    version = check_dataset(spec, record.store)["version"]
    driving.check_machine(settings, spec)
    weights = origin_of_weights(record.store, spec, record.run_id)
    origin = Origin(dataset_version=version)
    return origin if weights is None else origin.changed(init_from=weights)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
