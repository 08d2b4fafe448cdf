"""The jobs that drive and supervise a run, and their commands, wherever they are started."""

from pathlib import Path

from service.cluster.base import Job
from service.settings import Settings
from service.user_folder import python

DRIVERS = {"train": "jobs.train", "sweep": "jobs.sweep"}
"""What drives each kind of run."""
SUPERVISOR = "service.submission.detached"
"""What keeps a driver alive when nobody stays to do it."""


def driver_job(
    settings: Settings, kind: str, run_id: str, store_url: str, folder: Path, resume: bool, spec_changes: str | None
) -> Job:
    """The job that drives a run that is in the store; `spec_changes` is a whole spec as JSON that replaces the stored one."""
    return Job(kind, run_id, store_url, folder, resume, spec_changes, environment=settings.for_processes())


def argv(job: Job, executable: str, store: str, folder: str) -> tuple[str, ...]:
    """The command of a job by the Python `executable`, with the store and the folder as they are called where it runs."""
    words = python(SUPERVISOR if job.supervised else DRIVERS[job.kind], executable)
    words += ["--kind", job.kind, "--retries", str(job.retries)] if job.supervised else []
    words += ["--run", job.run_id, "--store", store, "--folder", folder]
    words += ["--resume"] if job.resume else []
    words += ["--spec-changes", job.spec_changes] if job.spec_changes else []
    return tuple(words)
