import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service import runs
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.specs.train import TrainSpec
from service.storage.base import Store

Delayline = Callable[..., Any]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def three(local_store: Store) -> Store:
    """Two runs that are over and one that lives."""
    for name, state in (("good", "succeeded"), ("bad", "failed"), ("living", "running")):
        record = RunRecord(local_store, name)
        assert record.claim(TrainSpec(model="cnn", dataset="digits", epochs=1))
        record.write_state(StateDocument(state=state, attempts=[], error=None, finished=None if state == "running" else 1e9))
        # It ended as long ago as the store says, whatever its driver's clock said.
        os.utime(Path(local_store.url, record.paths.state), (1e9, 1e9))
        record.store.write(record.paths.model, bytes(3 * 1024**2))
    assert Lease(RunRecord(local_store, "living")).acquire()
    return local_store


def there(store: Store) -> set[str]:
    return {row.id for row in runs.list_runs(store)}


def test_shows_what_would_go_and_deletes_nothing(delayline: Delayline, three: Store) -> None:
    done = delayline("runs", "prune", "--older-than", "7d")
    assert done.code == 0
    heading, *rows = done.out.splitlines()
    assert heading.split() == ["RUN", "STATE", "MODEL", "DATASET", "ENDED", "OBJECTS", "SIZE"]
    assert {row.split()[0] for row in rows} == {"good", "bad"} and all(row.endswith("3 MiB") for row in rows)
    assert "nothing was deleted; add --yes to delete 2 runs, 6 MiB" in done.err
    assert there(three) == {"good", "bad", "living"}


def test_deletes_with_yes(delayline: Delayline, three: Store) -> None:
    done = delayline("runs", "prune", "--state", "failed", "--yes")
    assert (done.code, done.out.splitlines()[1].split()[:2]) == (0, ["bad", "failed"])
    assert "1/1 bad deleted" in done.err and "deleted 1 run, 3 MiB" in done.err
    assert there(three) == {"good", "living"}
    again = delayline("runs", "prune", "--state", "failed", "--yes")
    assert (again.code, again.out) == (0, "") and "nothing to delete" in again.err


@pytest.mark.parametrize(
    ("answer", "left"), [("y\n", {"living"}), ("\n", {"good", "bad", "living"}), ("", {"good", "bad", "living"})]
)
def test_asks_on_a_terminal(
    delayline: Delayline, three: Store, monkeypatch: pytest.MonkeyPatch, answer: str, left: set[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True, raising=False)
    done = delayline("runs", "prune", "--keep-last", "0")
    assert done.code == 0 and "Delete 2 runs, 6 MiB? This cannot be undone." in done.err
    assert there(three) == left


def test_the_document_says_what_went(delayline: Delayline, three: Store) -> None:
    document = delayline("runs", "prune", "--keep-last", "0", "--json").document
    assert {row["id"] for row in document["runs"]} == {"good", "bad"} and document["deleted"] == 0
    document = delayline("runs", "prune", "--keep-last", "1", "--json", "--yes").document
    assert document["deleted"] == 1 and document["runs"][0]["deleted"] is True and document["bytes"] > 3 * 1024**2
    assert len(there(three)) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Nothing says which runs are to go"),
        (["--older-than", "long"], "is not a length of time: write 7d"),
        (["--state", "running"], "'running' is not one that can be deleted"),
    ],
)
def test_wrong_usage_deletes_nothing(delayline: Delayline, three: Store, arguments: list[str], words: str) -> None:
    done = delayline("runs", "prune", *arguments, "--yes")
    assert done.code == 2 and words in done.err
    assert there(three) == {"good", "bad", "living"}


def killed(store: Store, hours: float) -> Path:
    """What a writer that was killed so long ago left of 2 MiB."""
    file = Path(store.url) / ".delayline-tmp" / f"1-{int(hours)}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(2 * 1024**2))
    os.utime(file, (time.time() - 3600 * hours,) * 2)
    return file


def test_uploads_that_were_killed_a_day_ago_go_too(delayline: Delayline, three: Store) -> None:
    old, new = killed(three, 25), killed(three, 23)
    done = delayline("runs", "prune", "--state", "failed")
    assert "1 unfinished upload, 2 MiB killed more than a day ago" in done.err
    assert "add --yes to delete 1 run, 3 MiB, and 1 unfinished upload, 2 MiB" in done.err and old.exists()
    done = delayline("runs", "prune", "--state", "lost", "--yes", "--json")
    assert json.loads(done.out)["uploads"] == {"found": 1, "dropped": 1, "bytes": 2 * 1024**2}
    assert not old.exists() and new.exists()
    assert "nothing to delete" in delayline("runs", "prune", "--state", "lost", "--yes").err
