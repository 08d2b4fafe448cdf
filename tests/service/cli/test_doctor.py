from collections.abc import Callable
from typing import Any

import pytest

Delayline = Callable[..., Any]


def test_all_is_well_on_this_machine(delayline: Delayline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    done = delayline("doctor")
    assert done.code == 0, done.out
    names = [line.split()[1] for line in done.out.splitlines()]
    assert names[:2] == ["store", "endpoint"] and names[-4:] == ["Python", "packages", "GPUs", "head"]
    assert all(line.startswith("ok  ") for line in done.out.splitlines())
    document = delayline("doctor", "--json").document
    assert document["ok"] is True and {each["status"] for each in document["checks"]} == {"ok"}


def test_what_is_wrong_ends_with_5_and_says_the_remedy(delayline: Delayline) -> None:
    done = delayline("doctor", "--store", "s3://bucket?endpoint_override=host:9000", "--cluster", "host:8265")
    assert done.code == 5
    lines = done.out.splitlines()
    assert lines[0].startswith("failed       store") and "such as http://host:9000" in lines[0]
    assert any(line.startswith("failed       cluster") and "write http://HOST:8265" in line for line in lines)
    document = delayline("doctor", "--store", "s3://bucket?endpoint_override=host:9000", "--json").document
    assert document["ok"] is False


def test_a_token_does_not_go_to_a_cluster_by_http(delayline: Delayline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "t0ken")
    for command in (("doctor",), ("train", "--dry-run"), ("sweep", "--dry-run")):
        done = delayline(*command, "--cluster", "http://192.0.2.1:8265")
        assert done.code == 2 and "--insecure-token" in done.err and "t0ken" not in done.err + done.out
        assert len(done.err.splitlines()) == 1
