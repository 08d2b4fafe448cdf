"""How a RayJob of KubeRay ended, by its status."""

import re
from typing import Any

from service.errors import InfrastructureFailure

ENDED = frozenset({"Complete", "Failed", "ValidationFailed"})
"""The `jobDeploymentStatus` of a RayJob for which KubeRay does nothing more."""
_EXIT_CODE = re.compile(r"exit code (-?\d+)")

Document = dict[str, Any]


def has_ended(document: Document) -> bool:
    """Whether KubeRay does nothing more for a RayJob, or somebody deletes it."""
    status = document.get("status") or {}
    return status.get("jobDeploymentStatus") in ENDED or "deletionTimestamp" in document["metadata"]


def outcome_of(document: Document) -> tuple[int, str]:
    """The exit code that an ended RayJob stands for, and what it says of its end; KubeRay has the code in its message alone."""
    status = document.get("status") or {}
    if status.get("jobStatus") == "SUCCEEDED":
        return 0, ""
    message = " ".join(str(status.get("message") or "").split())
    said = re.findall(r"Error: ([^\n]+)", str(status.get("message") or ""))
    code = _EXIT_CODE.search(message)
    known = int(code[1]) if code else InfrastructureFailure.exit_code
    reason = status.get("reason") or "no reason"
    return known, said[-1].strip() if said else f"The RayJob failed ({reason}): {message[:500] or 'KubeRay says no more'}"
