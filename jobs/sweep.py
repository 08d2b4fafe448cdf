"""Run one sweep: `python -m jobs.sweep SPEC` or `--run ID`, on this machine or inside a Ray job. Exit codes: those of jobs.train."""

import argparse
import json
import sys
from pathlib import Path

from jobs.driving import entry as driving
from jobs.log_lines import say_aside
from jobs.sweeps.driver import SweepDriver
from service.checks.sweep import check_sweep, check_sweep_id, new_sweep_id
from service.checks.train import check_stopping
from service.recipes import sweeps
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.records.submission_schemas import Origin, SubmissionDocument
from service.settings import Settings
from service.specs.sweep import SweepSpec
from service.storage.base import Store


def main(argv: list[str]) -> int:
    """Parse, drive or attach, and return the exit code."""
    parser = driving.parser("sweep", sweeps.DEFAULT)
    return driving.main(parser, argv, submit, drive)


def drive(
    arguments: argparse.Namespace, record: RunRecord, submission: SubmissionDocument, settings: Settings, lease: Lease
) -> int:
    """Drive a sweep whose lease is held."""
    spec = SweepSpec.model_validate(json.loads(arguments.spec_changes) if arguments.spec_changes else submission.spec)
    stops = driving.listen(record, settings)
    return SweepDriver(
        record=record, spec=spec, settings=settings, lease=lease, folder=arguments.folder, say=say_aside, stops=stops
    ).run()


def submit(arguments: argparse.Namespace, settings: Settings, store: Store) -> str:
    """Claim a sweep for the spec on the command line, or find the one that has its id; return the id."""
    spec, stem = sweeps.resolve(arguments.spec or sweeps.DEFAULT, arguments.set, arguments.workers, Path.cwd())
    record = RunRecord(store, check_sweep_id(arguments.name) if arguments.name is not None else new_sweep_id(stem))
    return driving.claim(arguments, record, spec, stem, lambda: check(record, spec, settings))


def check(record: RunRecord, spec: SweepSpec, settings: Settings) -> Origin:
    """Check a sweep that is new as the plan of `delayline sweep` does; return what is known of its origin."""
    specs, dataset = check_sweep(spec, record.store, Path.cwd())
    for each in specs:
        check_stopping(each)
    driving.check_machine(settings, specs[0])
    return Origin(dataset_version=dataset["version"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
