"""Writes the end of a run whose driver was gone before it could: `python -m jobs.driving.after_stop`, a process of its own.

A person who stops a run at once does not wait for a store that is away; this process does. And `ray job stop` sends SIGTERM to a
job's processes and kills those that it knows 3 s later (RAY_JOB_STOP_WAIT_TIME_S); this one is started after it looked, and
outlives them. The system sends the same signal: `--ask-ray` asks Ray, by the job's status, whether a person stopped the job. In
Kubernetes Ray's word is not enough, for KubeRay stops a job too, when it deletes it: such a run is left to the next submission.
"""

import argparse
import sys
import time

from jobs.worker_groups.ray_job import status_of_job
from service.records.lease import process_start
from service.records.run_record import RunRecord
from service.records.standing import cancel_without_driver, interrupt_without_driver
from service.settings import Settings
from service.storage import open_store

DRIVER_SECONDS = 600.0
"""For the driver to end (assumed: longer than any limit that is set for saving)."""
STATUS_SECONDS = 60.0
"""For Ray to write how the job ended, which it does when the last of its processes has (assumed: longer than most stops wait)."""
LOOK_SECONDS = 0.5


def main(argv: list[str]) -> int:
    """Wait for the driver's end, and call the run cancelled if a person stopped it and the driver did not write how it ended."""
    parser = argparse.ArgumentParser(prog="python -m jobs.driving.after_stop")
    parser.add_argument("--run", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--driver", type=int, required=True, help="its process id")
    parser.add_argument("--cancelled", action="store_true", help="a person has stopped the run")
    parser.add_argument("--ask-ray", action="store_true", help="a person has if Ray says that the job was stopped")
    options = parser.parse_args(argv)
    # 0 is the job of another machine.
    if options.driver:
        wait_for_end(options.driver)
    settings = Settings.load(store=options.store)
    record = RunRecord(open_store(settings, patience=settings.store_patience), options.run)
    if options.ask_ray and settings.in_kubernetes and not record.person_cancelled():
        state = record.state()
        return 0 if state.is_ended or state.was_interrupted or interrupt_without_driver(record) else 1
    if options.cancelled or record.person_cancelled() or (options.ask_ray and job_was_stopped()):
        return 0 if cancel_without_driver(record) or record.state().is_ended else 1
    return 0


def wait_for_end(pid: int) -> None:
    """Return once the process has ended, also where its parent never asks for its end."""
    began, limit = process_start(pid), time.monotonic() + DRIVER_SECONDS
    while began and process_start(pid) == began and time.monotonic() < limit:
        time.sleep(LOOK_SECONDS)


def job_was_stopped() -> bool:
    """Whether this process's Ray job ended because somebody stopped it; False where Ray does not say, as when its head is gone."""
    end = time.monotonic() + STATUS_SECONDS
    while time.monotonic() < end:
        status = status_of_job()
        if status in ("STOPPED", "SUCCEEDED", "FAILED"):
            return status == "STOPPED"
        time.sleep(LOOK_SECONDS)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
