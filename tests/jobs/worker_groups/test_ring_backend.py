"""What each worker of an attempt is told of the others, with workers that are calls in this process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobs.training.ring import worker_addresses
from jobs.worker.peers import PEERS_VARIABLE, identity
from jobs.worker_groups import ring_backend as module
from jobs.worker_groups.ring_backend import RingBackend, RingConfig


class Workers:
    """Ray's group of workers, each a call in this process; keeps what each one knows once it was told."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.known: dict[int, dict[str, Any]] = {}

    def execute(self, function: Callable[[], Any]) -> list[Any]:
        return [function() for _ in range(self.count)]

    def execute_single_async(self, rank: int, function: Callable[..., None], *arguments: Any) -> int:
        function(*arguments)
        config = json.loads(os.environ["TF_CONFIG"])
        self.known[rank] = {"task": config["task"], "addresses": worker_addresses(), "peers": identity(rank)}
        return rank


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets the workers' variables go afterwards; what a worker answers is there at once."""
    for name in ("TF_CONFIG", PEERS_VARIABLE):
        monkeypatch.setenv(name, "[]")
    monkeypatch.setattr(module.ray, "get", lambda answers, timeout: answers)
    yield


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_worker_knows_its_rank_and_all_others_by_the_same_list(count: int) -> None:
    workers = Workers(count)
    RingBackend().on_start(workers, RingConfig())
    assert sorted(workers.known) == list(range(count))
    for rank, known in workers.known.items():
        assert known["task"] == {"type": "worker", "index": rank}
        assert known["addresses"] == workers.known[0]["addresses"]
        assert [each["rank"] for each in known["peers"]] == list(range(count))
        assert {each["pid"] for each in known["peers"]} == {os.getpid()}
    addresses = workers.known[0]["addresses"]
    assert len(addresses) == len(set(addresses)) == count, "each worker has a port of its own"
    assert all(0 < int(address.rpartition(":")[2]) < 65536 for address in addresses)


def test_an_address_of_ipv6_stands_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "get_address_and_port", lambda: ("fd00::7", 4242))
    workers = Workers(1)
    RingBackend().on_start(workers, RingConfig())
    assert workers.known[0]["addresses"] == ["[fd00::7]:4242"]


def test_neither_driver_nor_controller_imports_tensorflow_for_it() -> None:
    code = "import sys; from jobs.worker_groups.ring_backend import RingConfig; RingConfig().backend_cls; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"
