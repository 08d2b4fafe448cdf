"""How a run stands, told from its documents, and how it ends when no driver is there to end it."""

import contextlib
import subprocess
import sys
import time

from service.storage.records import ENDED, Document, Lease, RunRecord, lease_is_live

QUEUED_SECONDS = 60.0
"""A run without a driver for so long after it was submitted is taken for lost (assumed: a slow machine starts one in 20 s)."""


def standing(submission: Document, state: Document, lease: Document, now: float | None = None) -> str:
    """The state of a run as a reader sees it: `lost` when it has not ended and nobody alive drives it."""
    name = str(state["state"])
    if name in ENDED or lease_is_live(lease, now):
        return name
    if was_interrupted(state):
        return name
    age = (time.time() if now is None else now) - float(submission.get("submitted", 0.0))
    return name if name == "queued" and age < QUEUED_SECONDS else "lost"


def is_driven(submission: Document, state: Document, lease: Document) -> bool:
    """Whether somebody drives a run that has not ended, or is about to."""
    return lease_is_live(lease) or standing(submission, state, lease) == "queued"


def was_interrupted(state: Document) -> bool:
    """Whether the system stopped the run's last driver, which saved and left the rest to the next one."""
    return bool(state["state"] == "retrying" and state.get("reason") == "signal")


def end_without_driver(record: RunRecord, state: str, error: Document | None, exit_code: int) -> bool:
    """Write a final state for a run that nobody drives; return False, having done nothing, when somebody does."""
    lease = Lease(record)
    if not lease.acquire():
        return False
    try:
        document = record.state()
        if document["state"] in ENDED:
            return False
        now = time.time()
        for attempt in document["attempts"]:
            if attempt.get("finished") is None:
                attempt |= {"finished": now, "reason": "the driver was lost"}
        metrics = document.get("metrics") or record.progress().get("metrics", {})
        changes = {"state": state, "finished": now, "metrics": metrics, "error": error, "exit_code": exit_code}
        record.write_state({**document, **changes})
        record.clear_cancel()
    finally:
        lease.release()
    _start_report(record)
    return True


def _start_report(record: RunRecord) -> None:
    """Let the run's page be made, as a driver would have done; nobody waits for it."""
    argv = [sys.executable, "-m", "jobs.report", "--run", record.run_id, "--store", record.store.url]
    nowhere = subprocess.DEVNULL
    with contextlib.suppress(OSError):
        subprocess.Popen(argv, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)
