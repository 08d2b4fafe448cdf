"""Every error that Delayline raises on purpose.

    DelaylineError                exit code
    ├── InvalidInput              2   a spec, an option, a name or a setting is wrong
    │   └── UnknownName           2   a recipe, model, dataset or run that does not exist
    ├── UserFailure               3   the user's code or data failed; never retried
    │   ├── BadData               3   a file or a dataset is malformed
    │   ├── TimeLimitReached      3   the run took longer than its time_limit
    │   └── BadLoss               3   a loss became NaN or infinite, in training or in an evaluation
    ├── InfrastructureFailure     4   workers, nodes or Ray failed and the retries are used up
    │   ├── LeaseLost             4   another driver took the run over
    │   ├── Stalled               4   a worker made no progress for too long
    │   └── ClusterUnreachable    4   no answer from the cluster
    ├── StoreError                5   the store cannot be reached or refuses
    │   ├── StoreUnreachable      5   no answer in time: worth another try
    │   ├── CredentialsRefused    5   no credentials, or none that the store accepts
    │   ├── NotFound              5   no such object
    │   ├── Conflict              5   a conditional write came second
    │   └── Damaged               5   an object's checksum differs from its manifest
    └── Cancelled               130   by Ctrl-C or `delayline runs cancel`

`exit_code` is what a command that ends by the error returns, `kind` what the documents of a run call its class.

A message is one sentence that says what was received, what was expected and how to mend it.
"""

from typing import Any, ClassVar

__all__ = [
    "BadData",
    "BadLoss",
    "Cancelled",
    "ClusterUnreachable",
    "Conflict",
    "CredentialsRefused",
    "Damaged",
    "DelaylineError",
    "InfrastructureFailure",
    "InvalidInput",
    "LeaseLost",
    "NotFound",
    "Stalled",
    "StoreError",
    "StoreUnreachable",
    "TimeLimitReached",
    "UnknownName",
    "UserFailure",
]


class DelaylineError(Exception):
    """The base of all."""

    exit_code: ClassVar[int] = 4
    kind: ClassVar[str] = "infrastructure"

    def document(self) -> dict[str, Any]:
        """Why a run or a sweep failed, as its state holds it; `rank` is None where no worker said it."""
        return {"kind": self.kind, "exit_code": self.exit_code, "message": str(self), "rank": None, "traceback": ""}


class InvalidInput(DelaylineError):
    """A spec, an option, a name or a setting is wrong: nothing was started."""

    exit_code = 2
    kind = "invalid"


class UnknownName(InvalidInput):
    """A recipe, model, dataset or run that does not exist; the message lists the valid ones."""


class UserFailure(DelaylineError):
    """The user's code or data failed. The run ends at its first attempt.

    `user_traceback` holds the user's own stack lines, or is empty.
    """

    exit_code = 3
    kind = "user"

    def __init__(self, message: str, user_traceback: str = "") -> None:
        super().__init__(message, user_traceback)
        self.user_traceback = user_traceback

    def __str__(self) -> str:
        return str(self.args[0])

    def document(self) -> dict[str, Any]:
        """As of every error, with the user's own stack lines."""
        return {**super().document(), "traceback": self.user_traceback}


class BadData(UserFailure):
    """A file or a dataset is malformed; the message names the file and the offset."""


class TimeLimitReached(UserFailure):
    """The run took longer than its spec's `time_limit`."""

    kind = "time limit"


class BadLoss(UserFailure):
    """A loss or a metric became NaN or infinite, in training or in an evaluation; the message names the step."""


class InfrastructureFailure(DelaylineError):
    """Workers, nodes or Ray failed, and the retries are used up."""

    exit_code = 4


class Stalled(InfrastructureFailure):
    """A worker made no progress for longer than its limit; the log has its stacks."""


class LeaseLost(InfrastructureFailure):
    """Another driver took the run over; this one must stop writing."""

    kind = "lease"


class ClusterUnreachable(InfrastructureFailure):
    """No answer from the cluster within its time limit."""


class StoreError(DelaylineError):
    """The store cannot be reached or refuses: credentials, permissions, space, a missing bucket."""

    exit_code = 5
    kind = "store"


class StoreUnreachable(StoreError):
    """No answer from the store within its time limit."""


class CredentialsRefused(StoreError):
    """There are no credentials, or the store does not accept them: a mistake in the settings, or, where they are refreshed, a moment."""


class NotFound(StoreError):
    """There is no object with this key."""


class Conflict(StoreError):
    """A conditional write came second: the object exists, or changed since it was read."""


class Damaged(StoreError):
    """An object's bytes differ from the checksum in its manifest."""


class Cancelled(DelaylineError):
    """The user cancelled the run."""

    exit_code = 130
    kind = "cancelled"


LOST = frozenset({InfrastructureFailure.kind, LeaseLost.kind, StoreError.kind})
"""The kinds of what neither a spec nor data caused."""
_BY_EXIT_CODE = {each.exit_code: each for each in (InvalidInput, UserFailure, InfrastructureFailure, StoreError, Cancelled)}
EXIT_CODES = frozenset({0, *_BY_EXIT_CODE})
"""With which a process of Delayline ends on purpose."""


def for_exit_code(code: int, message: str, user_traceback: str = "") -> DelaylineError:
    """The error of an exit code; an InfrastructureFailure for a code that is none of Delayline's."""
    kind = _BY_EXIT_CODE.get(code, InfrastructureFailure)
    return kind(message, user_traceback) if issubclass(kind, UserFailure) else kind(message)
