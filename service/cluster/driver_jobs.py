"""The jobs that drive and supervise a run, wherever they are started."""

from dataclasses import replace
from pathlib import Path

from service.cluster.base import Job
from service.records.user_package import is_package
from service.settings import Settings, process_environment
from service.user_folder import python

DRIVERS = {"train": "jobs.train", "sweep": "jobs.sweep"}
"""What drives each kind of run."""


def driver_job(
    settings: Settings, kind: str, run_id: str, store_url: str, folder: Path, resume: bool, spec_changes: str | None
) -> Job:
    """The job that drives a run that is in the store; `spec_changes` is a whole spec as JSON that replaces the stored one."""
    argv = [*python(DRIVERS[kind]), "--run", run_id, "--store", store_url, "--folder", str(folder)]
    argv += ["--resume"] if resume else []
    argv += ["--spec-changes", spec_changes] if spec_changes else []
    # A package in the store is no folder to stand in.
    start = Path.cwd() if is_package(str(folder)) else folder
    return Job(run_id, tuple(argv), start, process_environment(**settings.for_processes()))


def supervisor_job(driver: Job, retries: int) -> Job:
    """The job that supervises a driver when nobody stays to do it; it takes the driver's own options."""
    options = driver.argv[driver.argv.index("--run") :]
    kind = next(kind for kind, module in DRIVERS.items() if module in driver.argv)
    argv = (*python("service.submission.detached"), "--kind", kind, "--retries", str(retries), *options)
    return replace(driver, argv=argv)
