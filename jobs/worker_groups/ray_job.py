"""The Ray job that this process belongs to, if it was submitted as one."""

import asyncio
import json
import os

_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray for a job's entry point, and what that starts."""


def in_ray_job() -> bool:
    """Whether this process was started by Ray as a job's entry point."""
    return _JOB in os.environ


def status_of_job() -> str | None:
    """What Ray says of the job, such as STOPPED; None where it does not answer. It is asked past the dashboard, which may be gone."""
    try:
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
        from ray.dashboard.modules.job.common import JobInfoStorageClient

        job = json.loads(os.environ[_JOB])["metadata"]["job_submission_id"]
        client = JobInfoStorageClient(GcsClient(address=os.environ["RAY_ADDRESS"]))
        return str(asyncio.run(client.get_status(job)).value)
    except Exception:
        return None
