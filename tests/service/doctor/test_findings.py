import threading
import time

import pytest

from service.doctor.findings import Finding, examine, ok
from service.doctor.machine import machine_checks
from service.errors import StoreError


def test_groups_run_at_the_same_time_and_keep_their_order() -> None:
    both = threading.Barrier(2, timeout=5)

    def meet() -> Finding:
        both.wait()
        return ok("met")

    lines = examine([[("a", meet), ("b", lambda: ok("b"))], [("c", meet)]], 5)
    assert [(line.name, line.status, line.text) for line in lines] == [("a", "ok", "met"), ("b", "ok", "b"), ("c", "ok", "met")]


def test_an_error_is_that_checks_alone() -> None:
    def refuse() -> Finding:
        raise StoreError("The store refuses.")

    def break_down() -> Finding:
        raise ZeroDivisionError("by zero")

    lines = examine([[("a", refuse), ("b", break_down), ("c", lambda: ok("fine"))]], 5)
    assert [line.status for line in lines] == ["failed", "failed", "ok"]
    assert lines[0].text == "The store refuses." and "ZeroDivisionError: by zero" in lines[1].text


def test_what_hangs_does_not_hold_the_others() -> None:
    release = threading.Event()

    def hang() -> Finding:
        release.wait(20)
        return ok("late")

    began = time.monotonic()
    lines = examine([[("a", hang), ("b", hang)], [("c", lambda: ok("fine"))]], 0.3)
    assert time.monotonic() - began < 2
    assert [line.status for line in lines] == ["failed", "not checked", "ok"]
    release.set()


def test_this_machine_has_what_the_tests_need() -> None:
    lines = {line.name: line for line in examine([machine_checks()], 9)}
    assert lines["Python"].status == lines["packages"].status == "ok"
    assert "tensorflow 2." in lines["packages"].text


def test_a_package_of_another_version_and_a_missing_one_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["numpy==0.1", "no-such-package-here", 'absent-extra; extra == "gpu"', "pytest"]
    monkeypatch.setattr("service.doctor.machine.metadata.requires", lambda _: wanted)
    line = examine([machine_checks()], 9)[1]
    assert (
        line.status == "failed"
        and "no-such-package-here is missing" in line.text
        and "numpy is" in line.text
        and "not ==0.1; " in line.text
    )
    assert "absent-extra" not in line.text
