"""Where the drivers of a group's runs meet; tests/jobs/vectorized trains what meets here."""

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobs.sweeps import rendezvous as module
from jobs.sweeps.rendezvous import MemberGroup, Rendezvous
from jobs.sweeps.trial_run import TrialRun
from jobs.vectorized.member_attempt import MemberAttempt
from jobs.worker.config import WorkerConfig

RUN = cast("TrialRun", SimpleNamespace(settings=None))


def config(run_id: str, attempt: int = 1) -> WorkerConfig:
    return WorkerConfig(run_id, {}, attempt, "nonce", 1, 1.0, "token", "/somewhere", {})


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The runs that were trained together; nothing is, and each attempt ends."""
    groups: list[list[str]] = []

    def train(attempts: Any, settings: Any) -> None:
        groups.append([attempt.config.run_id for attempt in attempts])
        for attempt in attempts:
            attempt.end()

    monkeypatch.setattr(module, "_train", train)
    return groups


def meet(rendezvous: Rendezvous, *drivers: Any) -> None:
    """Let the drivers do their part in threads of their own while the group trains in this one."""
    threads = [threading.Thread(target=driver) for driver in drivers]
    for thread in threads:
        thread.start()
    rendezvous.train(RUN)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def joins(rendezvous: Rendezvous, run_id: str) -> Any:
    def drive() -> None:
        with MemberGroup(rendezvous) as group:
            assert group.start(config(run_id)).wait(20)

    return drive


def test_those_that_join_train_together_whatever_the_order(trained: list[list[str]]) -> None:
    rendezvous = Rendezvous(3)
    meet(rendezvous, *(joins(rendezvous, run_id) for run_id in ("c", "a", "b")))
    assert trained == [["a", "b", "c"]]


def test_nobody_waits_for_a_driver_that_ends_without_an_attempt(trained: list[list[str]]) -> None:
    rendezvous = Rendezvous(2)

    def ends() -> None:
        with MemberGroup(rendezvous):
            pass

    meet(rendezvous, joins(rendezvous, "a"), ends)
    assert trained == [["a"]]
    alone = Rendezvous(1)
    with MemberGroup(alone):
        pass
    alone.train(RUN)
    assert trained == [["a"]]


def test_what_ends_the_group_ends_every_attempt_that_is_not_over(monkeypatch: pytest.MonkeyPatch) -> None:
    rendezvous = Rendezvous(2)
    first, second = rendezvous.join(config("a")), rendezvous.join(config("b"))

    def train(attempts: Any, settings: Any) -> None:
        attempts[0].end()
        raise MemoryError("too large")

    monkeypatch.setattr(module, "_train", train)
    rendezvous.train(RUN)
    assert first.error is None
    assert second.wait(0) and isinstance(second.error, MemoryError)


def test_a_driver_that_ends_gives_its_attempt_up() -> None:
    rendezvous = Rendezvous(1)
    with MemberGroup(rendezvous) as group:
        attempt = group.start(config("a"))
    assert isinstance(attempt, MemberAttempt) and attempt.given_up


def test_another_attempt_trains_apart_once_the_group_has_ended(trained: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr("jobs.worker_groups.in_process.run_worker", lambda config, *_: order.append(config.run_id))
    rendezvous = Rendezvous(2)
    group = MemberGroup(rendezvous)
    group.start(config("a"))
    again = group.start(config("a", attempt=2))
    assert not again.wait(0.2)
    rendezvous.decline()
    rendezvous.train(RUN)
    assert again.wait(20)
    assert (trained, order) == ([["a"]], ["a"])
