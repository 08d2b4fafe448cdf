from typing import Any

import pytest
from ray.dashboard.modules.job.common import JobStatus

from service.cluster.ray_states import LIVING, STATES, outcome_of


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"status": "PENDING"}, None),
        ({"status": "RUNNING"}, None),
        ({"status": "SUCCEEDED", "driver_exit_code": 0}, 0),
        ({"status": "STOPPED"}, 130),
        ({"status": "FAILED", "driver_exit_code": 3}, 3),
        ({"status": "FAILED", "driver_exit_code": 130}, 130),
        ({"status": "FAILED", "driver_exit_code": 0}, 0),
        ({"status": "FAILED", "driver_exit_code": 128}, 128),
        ({"status": "FAILED", "driver_exit_code": 129}, -1),
        ({"status": "FAILED", "driver_exit_code": 192}, -64),
        ({"status": "FAILED", "driver_exit_code": 193}, 193),
        ({"status": "FAILED", "driver_exit_code": -9}, -9),
        ({"status": "FAILED", "driver_exit_code": 137}, -9),
        ({"status": "FAILED", "error_type": "JOB_SUPERVISOR_ACTOR_DIED"}, -9),
    ],
)
def test_what_a_job_says_of_its_end(document: dict[str, Any], code: int | None) -> None:
    assert outcome_of(document) == (code, "")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"driver_exit_code": 127, "message": "sh: 1: exec: python: not found"}, "no `python` on its PATH"),
        ({"driver_exit_code": 1, "message": "…\nModuleNotFoundError: No module named 'jobs'"}, "not installed"),
        ({"driver_exit_code": 1, "message": "python: Error while finding … (ModuleNotFoundError: No module named 'service')"}, "not inst"),
        ({"driver_exit_code": 1, "message": "/usr/bin/python: No module named jobs"}, "not installed"),
        ({"error_type": "RUNTIME_ENV_SETUP_FAILURE", "message": "no\n space"}, "could not start the job: no space"),
    ],
)  # fmt: skip
def test_a_cluster_that_cannot_run_drivers_is_not_tried_again(document: dict[str, Any], words: str) -> None:
    code, problem = outcome_of({"status": "FAILED", **document})
    assert code == 4
    assert words in problem


def test_the_users_own_missing_module_is_not_delaylines() -> None:
    job = {"status": "FAILED", "driver_exit_code": 1, "message": "ModuleNotFoundError: No module named 'jobsite'"}
    assert outcome_of(job) == (1, "")


def test_every_state_of_ray_has_a_row_and_one_that_it_has_not_is_said() -> None:
    known = {str(status.value) for status in JobStatus}
    assert known == {row.status for row in STATES} - {None}
    for status in known:
        code, problem = outcome_of({"status": status, "driver_exit_code": 3})
        assert (code is None) == (status in LIVING)
        assert not problem
    code, problem = outcome_of({"status": "SUSPENDED", "message": "for a while"})
    assert code == 4
    assert "update Delayline: for a while" in problem
