"""A line of a process's log."""

import re

import pytest

from jobs.log_lines import say, say_aside


def test_a_line_has_the_time_and_goes_where_it_belongs(capsys: pytest.CaptureFixture[str]) -> None:
    say("for the log")
    say_aside("for people")
    out, err = capsys.readouterr()
    assert re.fullmatch(r"\d\d:\d\d:\d\d for the log\n", out)
    assert re.fullmatch(r"\d\d:\d\d:\d\d for people\n", err)
