"""Who the workers of an attempt are."""

import json
import os
import socket

import pytest

from jobs.worker.peers import identity


def test_a_worker_alone_is_its_own_peer() -> None:
    assert identity(0) == [{"rank": 0, "host": socket.gethostname(), "pid": os.getpid()}]


def test_a_worker_knows_its_peers_from_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [{"rank": 0, "host": "a", "pid": 1}, {"rank": 1, "host": "b", "pid": 2}]
    monkeypatch.setenv("DELAYLINE_PEERS", json.dumps(members))
    assert identity(1) == members
