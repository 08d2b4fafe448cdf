"""The classes of failures: each with its exit code and its word in the documents of a run."""

import re

import pytest

from service import errors
from service.errors import EXIT_CODES, LOST, DelaylineError, InfrastructureFailure, UserFailure, for_exit_code

ALL = [getattr(errors, name) for name in errors.__all__]
KINDS = {
    "InvalidInput": "invalid",
    "TimeLimitReached": "time limit",
    "UserFailure": "user",
    "LeaseLost": "lease",
    "InfrastructureFailure": "infrastructure",
    "StoreError": "store",
    "Cancelled": "cancelled",
    "DelaylineError": "infrastructure",
}
"""In the stores of runs that were: a nearer base first."""


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_the_docstring_names_every_class_with_its_exit_code(kind: type[DelaylineError]) -> None:
    told = re.search(rf"\b{kind.__name__} +(\d+|exit code)", errors.__doc__ or "")
    assert told and (kind is DelaylineError or int(told[1]) == kind.exit_code)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_the_documents_of_a_run_call_a_class_as_they_always_did(kind: type[DelaylineError]) -> None:
    nearest = next(base.__name__ for base in kind.__mro__ if base.__name__ in KINDS)
    document = kind("a sentence").document()
    assert document == {
        "kind": KINDS[nearest], "exit_code": kind.exit_code, "message": "a sentence", "rank": None, "traceback": ""
    }  # fmt: skip


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_an_exit_code_stands_for_an_error_that_ends_with_it(kind: type[DelaylineError]) -> None:
    again = for_exit_code(kind.exit_code, "a sentence", "nets.py, line 3")
    assert (again.exit_code, str(again)) == (kind.exit_code, "a sentence")
    assert issubclass(kind, type(again)) or kind is DelaylineError
    assert kind.exit_code in EXIT_CODES
    # Lost is what somebody may try again: nothing that ends as the user's own mistake.
    assert (kind.kind in LOST) == (kind.exit_code in (4, 5))


def test_the_users_stack_goes_with_a_failure_of_theirs() -> None:
    again = for_exit_code(3, "a sentence", "nets.py, line 3")
    assert isinstance(again, UserFailure) and again.document()["traceback"] == "nets.py, line 3"


@pytest.mark.parametrize("code", [1, -9, 139])
def test_any_other_exit_code_is_a_failure_of_the_infrastructure(code: int) -> None:
    assert code not in EXIT_CODES and type(for_exit_code(code, "died")) is InfrastructureFailure
