"""What the status of a RayJob says of its end."""

from typing import Any

import pytest

from service.cluster.ray_job_status import has_ended, outcome_of


def ended(status: str, deployment: str, message: str = "", reason: str = "") -> dict[str, Any]:
    return {
        "metadata": {"name": "one"},
        "status": {"jobStatus": status, "jobDeploymentStatus": deployment, "message": message, "reason": reason},
    }


@pytest.mark.parametrize(
    ("document", "code", "words"),
    [
        (ended("SUCCEEDED", "Complete", "Job finished successfully."), 0, ""),
        (
            ended(
                "FAILED", "Failed",
                "Job entrypoint command failed with exit code 2, last available logs (truncated to 20,000 chars):\nError: epochs is -1.\n",
                "AppFailed",
            ),
            2, "epochs is -1.",
        ),
        (ended("FAILED", "Failed", "Job entrypoint command failed with exit code 130, last available logs", "AppFailed"), 130, "AppFailed"),
        (ended("", "Failed", "The RayJob has passed the activeDeadlineSeconds.", "DeadlineExceeded"), 4, "DeadlineExceeded"),
        (ended("", "Failed"), 4, "KubeRay says no more"),
    ],
)  # fmt: skip
def test_an_end_has_the_drivers_exit_code_and_its_sentence(document: dict[str, Any], code: int, words: str) -> None:
    found, said = outcome_of(document)
    assert found == code
    assert words in said


def test_a_rayjob_that_is_being_deleted_counts_as_ended() -> None:
    living = {"metadata": {"name": "one"}, "status": {"jobDeploymentStatus": "Running"}}
    assert not has_ended(living)
    assert not has_ended({"metadata": {"name": "one"}})
    assert has_ended({**living, "metadata": {"name": "one", "deletionTimestamp": "2026-11-29T16:00:00Z"}})
