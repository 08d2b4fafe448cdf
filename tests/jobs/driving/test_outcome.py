"""How a driver's outcome becomes its exit code, and whether another attempt follows."""

import pytest

from jobs.driving.outcome import Outcome
from service.errors import DelaylineError, InfrastructureFailure, StoreUnreachable, TimeLimitReached, UserFailure


def test_the_exit_code_is_that_of_the_failure() -> None:
    assert (Outcome.succeeded().exit_code, Outcome.cancelled().exit_code) == (0, 130)
    for error in (UserFailure("mine"), InfrastructureFailure("its"), TimeLimitReached("late")):
        assert Outcome.failed(error).exit_code == error.exit_code


@pytest.mark.parametrize(
    ("error", "passing", "retryable"),
    [
        (InfrastructureFailure("a node was lost"), False, True),
        (StoreUnreachable("away"), True, True),
        (StoreUnreachable("never worked"), False, False),
        (UserFailure("mine"), False, False),
    ],
)
def test_another_attempt_follows_what_may_pass(error: DelaylineError, passing: bool, retryable: bool) -> None:
    assert Outcome.failed(error, passing).retryable == retryable
    assert not Outcome.succeeded().retryable and not Outcome.cancelled().retryable
