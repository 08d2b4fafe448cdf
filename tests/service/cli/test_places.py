"""How a run stands whose driver is gone, where its cluster keeps the job alive that starts another one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from service.cli import runs as command
from service.cluster.base import Cluster, Handle, Job, Request
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.specs.parts import Resources
from service.storage.base import Store

Delayline = Callable[..., Any]


@dataclass
class Kept(Handle):
    """A job that lives until it has a `code`; `why`: what keeps it from starting."""

    code: int | None = None
    why: str | None = None

    def poll(self) -> int | None:
        return self.code

    def stop(self, grace: float = 0.9) -> None: ...

    def output(self) -> str:
        return ""

    def hindrance(self) -> str | None:
        return self.why


class Place(Cluster):
    """Has one job at most, or has forgotten it."""

    handle: Kept | None = None

    def request(self, job: Job) -> Request:
        raise NotImplementedError

    def start(self, request: Request) -> Handle:
        raise NotImplementedError

    def find(self, run_id: str) -> Handle | None:
        return self.handle

    def check_resources(self, workers: int, worker: Resources) -> None: ...


@pytest.fixture
def place(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place()
    monkeypatch.setattr(command, "open_place", lambda settings: (made, local_store))
    return made


def lose(record: RunRecord) -> None:
    """Its driver, in the first attempt."""
    attempt = {"number": 1, "workers": [], "started": 1.0, "finished": None, "reason": None}
    record.write_state(StateDocument(state="running", attempt=1, attempts=[attempt], started=1.0, error=None))


@pytest.mark.parametrize(
    ("handle", "state", "said"),
    [
        (Kept(), "retrying", "the driver was lost; its job starts another one"),
        (Kept(why="The head finds no node"), "retrying", "The head finds no node"),
        (Kept(code=4), "lost", None),
        (None, "lost", None),
    ],
    ids=["starts another one", "waits for a node", "has ended", "is gone"],
)
def test_a_run_whose_driver_is_gone_is_lost_unless_its_job_starts_another_one(
    delayline: Delayline, submitted: RunRecord, place: Place, handle: Kept | None, state: str, said: str | None
) -> None:
    lose(submitted)
    place.handle = handle
    shown = delayline("runs", "show", "fake", "--json").document
    assert (shown["state"], (shown["waiting"] or {}).get("message")) == (state, said)
    assert [row["state"] for row in delayline("runs", "list", "--json").document] == [state]
    assert delayline("runs", "list", "--state", state).out.splitlines()[1].split()[0] == "fake"


def test_a_run_that_waits_long_for_its_first_driver_is_queued_still(
    delayline: Delayline, submitted: RunRecord, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.records.standing.QUEUED_SECONDS", -1.0)
    assert delayline("runs", "show", "fake", "--json").document["state"] == "lost"
    place.handle = Kept()
    shown = delayline("runs", "show", "fake", "--json").document
    assert (shown["state"], shown["waiting"]["message"]) == ("queued", "its job has not started a driver yet")
