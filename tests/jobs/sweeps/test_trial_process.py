"""The process that Ray Tune keeps for trial after trial: what it begins, saves and stops, with trials that only note it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.sweeps import trial_process as module
from jobs.sweeps.trial_order import TrialOrder
from jobs.sweeps.trial_process import TrialProcess


def order(run_id: str, **changes: Any) -> dict[str, Any]:
    values = {
        "id": run_id, "sweep": "s", "store": "file:///nowhere", "folder": "/somewhere", "metric": "val_loss", "by_evaluation": True,
        "from_history": False, "over": False, "mutation": None, "distributed": False, "local": True, "environment": {},
    }  # fmt: skip
    return {"order": {**values, **changes}}


class Noted:
    """Reports three evaluations and notes what is asked of it."""

    noted: list[tuple[str, str]]

    def __init__(self, name: str) -> None:
        self.id = name
        self._note("begun")

    def reports(self) -> Iterator[dict[str, Any]]:
        for number in range(1, 4):
            yield {"id": self.id, "evaluation": number, "done": number == 3}

    def stop(self) -> None:
        self._note("stopped")

    def _note(self, what: str) -> None:
        self.noted.append((self.id, what))


class NotedTrial(Noted):
    """A trial by itself."""

    def __init__(self, given: TrialOrder) -> None:
        super().__init__(given.id)

    def wait_for_checkpoint(self) -> None:
        self._note("saved")


class NotedGroup(Noted):
    """Trials that train together, of which Tune knows the first."""

    def __init__(self, runs: list[str]) -> None:
        super().__init__("+".join(runs))


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was asked of which trial."""
    kept: list[tuple[str, str]] = []
    monkeypatch.setattr(Noted, "noted", kept, raising=False)
    monkeypatch.setattr(module, "Trial", NotedTrial)
    monkeypatch.setattr(module, "GroupTrial", NotedGroup)
    monkeypatch.setattr(module, "release_graphs", lambda: None)
    monkeypatch.setattr(TrialOrder, "runs", lambda self: [self.id, *self.others])
    return kept


def test_it_reports_a_trial_to_its_end_and_begins_the_next_in_the_same_process(noted: list[tuple[str, str]]) -> None:
    process = TrialProcess(order("a"))
    assert noted == []
    assert [process.train()["evaluation"] for _ in range(3)] == [1, 2, 3]
    assert process.reset(order("b"))
    assert process.train()["id"] == "b"
    process.stop()
    assert noted == [("a", "begun"), ("a", "stopped"), ("b", "begun"), ("b", "stopped")]


def test_a_save_waits_for_the_runs_own_checkpoint_and_gives_what_was_reported_last(noted: list[tuple[str, str]]) -> None:
    process = TrialProcess(order("a"))
    process.train()
    saved = process.save()
    assert noted == [("a", "begun"), ("a", "saved")]
    assert saved.metrics["evaluation"] == 1
    assert list(Path(saved.checkpoint.path).glob("*.safetensors")) == [], "Tune is given no copy"
    process.stop()


def test_trials_that_train_together_are_one_and_save_by_themselves(noted: list[tuple[str, str]]) -> None:
    process = TrialProcess(order("a", others=("b", "c")))
    assert process.train()["id"] == "a+b+c"
    process.save()
    process.stop()
    assert noted == [("a+b+c", "begun"), ("a+b+c", "stopped")]


def test_it_takes_the_sweeps_settings(noted: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELAYLINE_STORE", "elsewhere")
    process = TrialProcess(order("a", environment={"DELAYLINE_STORE": "file:///shared"}))
    assert os.environ["DELAYLINE_STORE"] == "file:///shared"
    process.stop()
    assert noted == []


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_whatever_tune_asks_each_trial_that_began_is_stopped_once_before_the_next_begins(
    noted: list[tuple[str, str]], steps: list[int]
) -> None:
    noted.clear()
    process = TrialProcess(order("t0"))
    for number, count in enumerate(steps):
        for _ in range(count):
            process.train()
        assert process.reset(order(f"t{number + 1}"))
    process.stop()
    begun = [f"t{number}" for number, count in enumerate(steps) if count]
    assert noted == [(name, what) for name in begun for what in ("begun", "stopped")]
