"""What the states of a Ray job stand for."""

import re
from collections.abc import Container
from typing import Any, NamedTuple

LIVING = frozenset({"PENDING", "RUNNING"})
DIED = -9
"""The exit code that stands for a job of which Ray lost the process."""
LOST = frozenset({"JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE"})
NOT_INSTALLED = r"No module named '?(jobs|service)\b"

Document = dict[str, Any]


class Row(NamedTuple):
    """The code that a job's state stands for; of what is None here, any will do."""

    status: str | None
    code: int | str | None
    """The exit code; None while the job lives, `own` for the process's, `signal` for the negative number of the one that ended it."""
    exit_codes: Container[int | None] | None = None
    errors: Container[str | None] | None = None
    message: str = ""
    """An expression that is found in Ray's message."""
    problem: str = ""
    """What is wrong with the cluster; `{said}` is Ray's message."""

    def holds(self, job: Document) -> bool:
        """Whether the row is about such a job."""
        return (
            self.status in (None, job["status"])
            and (self.exit_codes is None or job.get("driver_exit_code") in self.exit_codes)
            and (self.errors is None or job.get("error_type") in self.errors)
            and re.search(self.message, str(job.get("message") or "")) is not None
        )


STATES = (
    # It waits for its environment or for room.
    Row("PENDING", None),
    # Its process lives, as far as Ray knows.
    Row("RUNNING", None),
    # Its process ended with 0.
    Row("SUCCEEDED", 0),
    # By `ray job stop` or Handle.stop, whatever the process then ended with.
    Row("STOPPED", 130),
    # Ray lost the process, with a node for instance: another one may do better.
    Row("FAILED", DIED, exit_codes=(None,), errors=LOST),
    # No process came to be, and none would the next time.
    Row("FAILED", 4, exit_codes=(None,), problem="The cluster could not start the job: {said}"),
    # The shell's codes for a command that cannot be executed or is not there.
    Row("FAILED", 4, exit_codes=(126, 127),
        problem="The cluster has no `python` on its PATH: start Ray from the environment that holds Delayline."),
    # Python's own exit code: no driver ends with 1.
    Row("FAILED", 4, exit_codes=(1,), message=NOT_INSTALLED,
        problem="Delayline is not installed in the cluster's Python: install it on every node, the head included."),
    # A driver that a person stopped ends with it on purpose: not a shell's code for SIGINT.
    Row("FAILED", 130, exit_codes=(130,)),
    # The shell's way to say that a signal ended the process.
    Row("FAILED", "signal", exit_codes=range(129, 128 + 65)),
    # The driver's own exit code, or a signal's negative number as Python's `subprocess` gives it.
    Row("FAILED", "own"),
    # A status that Ray has not had so far.
    Row(None, 4, problem="The job is in a state that this version does not know; update Delayline: {said}"),
)  # fmt: skip
"""The first row that holds says what a job's state stands for."""


def outcome_of(job: Document) -> tuple[int | None, str]:
    """The exit code that a job's document stands for, None while it lives, and what is wrong with the cluster, if anything.

    A process that a signal ended has the signal's negative number.
    """
    row = next(row for row in STATES if row.holds(job))
    said = " ".join(str(job.get("message") or "").split())[:300]
    codes = {"own": lambda: int(job["driver_exit_code"]), "signal": lambda: 128 - int(job["driver_exit_code"])}
    code = codes[row.code]() if isinstance(row.code, str) else row.code
    return code, row.problem.format(said=said)
