"""What a driver sees of nodes that are taken away, without waiting for a cluster."""

import threading
import time
from collections.abc import Callable

import pytest

from jobs.worker_groups import node_watch
from jobs.worker_groups.base import Leaving
from jobs.worker_groups.node_watch import NodeWatch


def until(moment: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not moment() and time.monotonic() < end:
        time.sleep(0.01)
    return moment()


def test_it_tells_the_nodes_and_whether_one_is_its_own() -> None:
    watch = NodeWatch(lambda: frozenset({"a", "b"}), lambda: "b")
    assert until(lambda: watch.seen() == Leaving(frozenset({"a", "b"}), driver=True))
    watch.stop()
    other = NodeWatch(lambda: frozenset({"a"}), lambda: "b")
    assert until(lambda: other.seen() == Leaving(frozenset({"a"})))
    other.stop()


def test_a_cluster_that_does_not_answer_holds_nobody_up() -> None:
    answers = threading.Event()

    def hangs() -> frozenset[str]:
        answers.wait(20)
        return frozenset()

    watch, began = NodeWatch(hangs, str), time.monotonic()
    assert watch.seen() == Leaving()
    watch.stop()
    assert time.monotonic() - began < 5
    answers.set()


def test_a_look_that_fails_leaves_what_was_seen_and_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def fails_second() -> frozenset[str]:
        looks.append(len(looks))
        if len(looks) == 2:
            raise RuntimeError("the cluster is away")
        return frozenset({"a"})

    monkeypatch.setattr(node_watch, "LOOK_SECONDS", 0.01)
    watch = NodeWatch(fails_second, str)
    watch.seen()
    assert until(lambda: len(looks) > 2)
    assert watch.seen().nodes == {"a"}
    watch.stop()
