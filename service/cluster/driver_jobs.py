"""The jobs that drive and supervise a run, and their commands, wherever they are started."""

import base64
import zlib
from pathlib import Path

from service.cluster.base import Job
from service.settings import Settings
from service.user_folder import python

DRIVERS = {"train": "jobs.train", "sweep": "jobs.sweep"}
"""What drives each kind of run."""
SUPERVISOR = "service.submission.detached"
"""What keeps a driver alive when nobody stays to do it."""

SAVE_SECONDS = 100
"""How long Ray lets a stopped job save before it kills it; more than its driver allows its workers. Ray's own default is 3."""
SENT = ("store_patience", "ring_timeout", "wait_limit")
"""The settings that a user may give for a run on a cluster; the others are the cluster's own."""


def driver_job(
    settings: Settings, kind: str, run_id: str, store_url: str, folder: Path, resume: bool, spec_changes: str | None
) -> Job:
    """The job that drives a run that is in the store; `spec_changes` is a whole spec as JSON that replaces the stored one."""
    return Job(kind, run_id, store_url, folder, resume, spec_changes, environment=settings.for_processes())


def argv(job: Job, executable: str, store: str, folder: str, claims: bool = False) -> tuple[str, ...]:
    """The command of a job by the Python `executable`, with the store and the folder as they are called where it runs.

    `claims`: a supervisor is told what the run is, so that it can claim the id for whom this command alone has reached.
    """
    words = python(SUPERVISOR if job.supervised else DRIVERS[job.kind], executable)
    words += ["--kind", job.kind, "--retries", str(job.retries)] if job.supervised else []
    words += ["--run", job.run_id, "--store", store, "--folder", folder]
    words += ["--resume"] if job.resume else []
    if claims and job.submission:
        words += ["--submission", packed(job.submission), *(["--changed"] if job.spec_changes else [])]
    elif job.spec_changes:
        words += ["--spec-changes", job.spec_changes]
    return tuple(words)


def variables(settings: Settings | None = None) -> dict[str, str]:
    """The variables of a job in a cluster: the settings that a user gave for it, if any; nothing else comes from an environment."""
    known = set() if settings is None else settings.model_fields_set
    given = {name: str(getattr(settings, name)) for name in SENT if name in known}
    return {
        "RAY_JOB_STOP_WAIT_TIME_S": str(SAVE_SECONDS),
        # A supervisor in the cluster drives the run there and submits it nowhere else.
        "DELAYLINE_CLUSTER": "",
        # Whatever lies where Ray was started: no module of the job's is looked for there.
        "PYTHONSAFEPATH": "1",
        **{f"DELAYLINE_{name.upper()}": value for name, value in given.items()},
    }


def packed(text: str) -> str:
    """A text as one word that every shell leaves as it is: on its way into a cluster it passes two or three."""
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode()


def unpacked(word: str) -> str:
    """What `packed` made a word of; raise ValueError for another."""
    try:
        return zlib.decompress(base64.urlsafe_b64decode(word)).decode()
    except zlib.error as error:
        raise ValueError(str(error)) from error
