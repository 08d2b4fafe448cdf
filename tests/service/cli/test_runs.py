import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service import runs
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.records.schemas import ProgressDocument, StateDocument
from service.records.submissions import run_summary
from service.specs.train import TrainSpec
from service.storage.base import Store

Delayline = Callable[..., Any]


def finish(record: RunRecord, state: str = "succeeded", **changes: Any) -> None:
    attempt = {"number": 1, "workers": [{"rank": 0, "host": "h", "pid": 1}], "started": 1.0, "finished": 5.0, "reason": state}
    document = {
        "state": state,
        "attempt": 1,
        "attempts": [attempt],
        "started": 1.0,
        "finished": 5.0,
        "error": None,
        "exit_code": 0,
    }
    record.write_state(StateDocument.model_validate({**document, "metrics": {"test_accuracy": 0.9876}, **changes}))


def test_lists_runs(delayline: Delayline, submitted: RunRecord) -> None:
    finish(submitted)
    assert [row["id"] for row in delayline("runs", "list", "--json").document] == ["fake"]
    heading, row = delayline("runs", "list").out.splitlines()
    assert heading.startswith("RUN ")
    assert row.split()[:5] == ["fake", "train", "succeeded", "cnn", "digits"]
    assert "test_accuracy 0.9876" in row


def test_lists_the_newest_that_are_asked_for(delayline: Delayline, local_store: Store) -> None:
    """People see how many more there are; scripts get all, or as many as they ask for."""
    for number in range(53):
        record = RunRecord(local_store, f"run-{number:02d}")
        assert record.claim(TrainSpec(model="dense" if number else "cnn", dataset="digits", epochs=1))
        finish(
            record, "succeeded" if number < 51 else "failed", summary=run_summary(record.submission()).changed(submitted=number)
        )
    names = [f"run-{number:02d}" for number in reversed(range(53))]

    def listed(*options: str) -> list[str]:
        return [row["id"] for row in delayline("runs", "list", "--json", *options).document]

    done = delayline("runs", "list")
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == names[:50]
    assert done.err == "… and 3 more: --limit 0 shows them all\n"
    done = delayline("runs", "list", "--limit", "0")
    assert (len(done.out.splitlines()), done.err) == (54, "")
    assert (listed(), listed("--limit", "2"), listed("--limit", "all")) == (names, names[:2], names)
    assert listed("--state", "failed") == listed("--since", "1970-01-01", "--state", "failed", "--state", "lost") == names[:2]
    assert listed("--model", "cnn", "--dataset", "digits") == ["run-00"]
    assert listed("--since", "1d") == []
    none = delayline("runs", "list", "--state", "lost")
    assert (none.code, none.out) == (0, "")
    assert "No run in the store is such a one; `delayline runs list` shows all 53" in none.err


def test_lists_by_tags_and_shows_them(delayline: Delayline, local_store: Store, submitted: RunRecord) -> None:
    assert RunRecord(local_store, "tagged").claim(TrainSpec(model="cnn", dataset="digits", epochs=1, tags=("a", "b")))
    heading, row = delayline("runs", "list", "--tag", "b", "--tag", "a").out.splitlines()
    assert (row.split()[0], heading.split()[-1]) == ("tagged", "TAGS")
    assert row.endswith("a, b")


def test_writes_prints_and_deletes_a_note(delayline: Delayline, submitted: RunRecord) -> None:
    none = delayline("runs", "note", "fake")
    assert (none.code, none.out, "has no note" in none.err) == (0, "", True)
    assert "note:" not in delayline("runs", "show", "fake").out
    assert delayline("runs", "note", "fake", "a good one").err == "run fake has this note now\n"
    assert delayline("runs", "note", "fake").out == "a good one\n"
    assert "note: a good one" in delayline("runs", "show", "fake").out
    documents = [delayline("runs", *words, "--json").document for words in (("show", "fake"), ("note", "fake"), ("list",))]
    assert [documents[0]["note"], documents[1], documents[2][0]["note"]] == [
        "a good one",
        {"id": "fake", "note": "a good one"},
        "a good one",
    ]
    assert delayline("runs", "note", "fake", "").err == "run fake has no note now\n"
    assert delayline("runs", "note", "fake", "--json").document == {"id": "fake", "note": None}


@pytest.mark.parametrize("option", ["--state", "--since", "--limit"])
def test_a_list_of_what_there_cannot_be_is_refused(delayline: Delayline, option: str) -> None:
    done = delayline("runs", "list", option, "nonsense")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"{option} 'nonsense' is not a" in done.err or "neither a length of time nor a date" in done.err


def test_an_empty_store_has_no_runs(delayline: Delayline) -> None:
    assert delayline("runs", "list", "--json").document == []
    done = delayline("runs", "list")
    assert (done.code, done.out) == (0, "")
    assert "no runs yet" in done.err


def test_shows_a_run(delayline: Delayline, submitted: RunRecord) -> None:
    finish(submitted)
    submitted.write_history([{"epoch": 1, "step": 1, "loss": 0.5, "learning_rate": 1.25e-5, "time": 1795945877.256}])
    document = delayline("runs", "show", "fake", "--json").document
    assert (document["id"], document["state"], document["metrics"]) == ("fake", "succeeded", {"test_accuracy": 0.9876})
    text = delayline("runs", "show", "fake").out
    assert "state: succeeded" in text
    assert re.search(
        r"- 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d  epoch 1  step 1  loss 0.5000  learning_rate 1.25e-05$", text, re.MULTILINE
    )


@pytest.mark.parametrize("way", ["told", "silent"])
def test_show_and_watch_say_for_how_long_there_was_no_step(delayline: Delayline, submitted: RunRecord, way: str) -> None:
    """As rank 0 says it, or by the age of what it said last: it may stand still with all its threads."""
    lease = Lease(submitted)
    assert lease.acquire()
    attempt = {"number": 1, "workers": [], "started": 1.0, "finished": None, "reason": None}
    submitted.write_state(StateDocument(state="running", attempt=1, attempts=[attempt], started=1.0, finished=None))
    submitted.write_progress(
        ProgressDocument(attempt=1, phase="training", step=7, steps=9, idle_seconds=720 if way == "told" else None)
    )
    if way == "silent":
        file = Path(submitted.store.url, submitted.paths.progress)
        os.utime(file, (file.stat().st_atime, file.stat().st_mtime - 720))
    assert "idle_seconds: no step for 12 min" in delayline("runs", "show", "fake").out
    assert delayline("runs", "show", "fake", "--json").document["idle_seconds"] in range(720, 730)
    update = next(runs.watch(submitted.store, "fake"))
    assert update.progress.idle_seconds in range(720, 730)
    finish(submitted)
    assert delayline("runs", "show", "fake", "--json").document["idle_seconds"] is None


def test_an_unknown_run_is_refused(delayline: Delayline) -> None:
    for command in ("show", "note", "watch", "logs", "cancel"):
        done = delayline("runs", command, "absent")
        assert (done.code, done.out) == (2, "")
        assert "There is no run 'absent'" in done.err


def test_watches_a_run_to_its_end(delayline: Delayline, submitted: RunRecord) -> None:
    finish(submitted)
    done = delayline("runs", "watch", "fake")
    assert done.code == 0
    assert done.out.startswith("run fake succeeded in 0:04: test_accuracy 0.9876")


def test_watching_a_failed_run_ends_as_it_did(delayline: Delayline, submitted: RunRecord) -> None:
    finish(submitted, "failed", error={"message": "ValueError: my own mistake", "kind": "user"}, exit_code=3)
    done = delayline("runs", "watch", "fake")
    assert done.code == 3
    assert "ValueError: my own mistake" in done.err


def test_prints_logs(delayline: Delayline, submitted: RunRecord) -> None:
    for rank in (0, 1):
        submitted.store.write(submitted.paths.log(submitted.label(1), rank), f"I am {rank} \x1b[2J".encode())
    done = delayline("runs", "logs", "fake")
    assert [line[:6] for line in done.out.splitlines()] == ["I am 0", "I am 1"]
    assert "\x1b" not in done.out
    assert "==> attempt 1, rank 1 <==" in done.err
    one = delayline("runs", "logs", "fake", "--rank", "1", "--json").document
    assert [(log["attempt"], log["rank"]) for log in one] == [(1, 1)]


def test_cancels_a_run_that_nobody_drives(delayline: Delayline, submitted: RunRecord) -> None:
    done = delayline("runs", "cancel", "fake")
    assert (done.code, done.out) == (0, "run fake is cancelled\n")
    again = delayline("runs", "cancel", "fake")
    assert again.code == 2
    assert "ended already" in again.err


def test_cancelling_gives_up_after_the_wait(delayline: Delayline, submitted: RunRecord) -> None:
    assert Lease(submitted).acquire()
    done = delayline("runs", "cancel", "fake", "--wait", "0.1")
    assert done.code == 4
    assert "has not ended within 0.1 s" in done.err
    assert submitted.cancel_requested()
    assert delayline("runs", "cancel", "fake", "--wait", "0", "--json").document["state"] == "queued"


def test_watch_prints_one_document_also_of_a_failed_run(delayline: Delayline, submitted: RunRecord) -> None:
    finish(submitted)
    done = delayline("runs", "watch", "fake", "--json")
    assert (done.code, done.document["state"]) == (0, "succeeded")
    finish(submitted, "failed", error={"message": "ValueError: my own mistake", "kind": "user"}, exit_code=3)
    done = delayline("runs", "watch", "fake", "--json")
    assert (done.code, done.document["state"]) == (3, "failed")


def test_watching_a_lost_run_ends(delayline: Delayline, submitted: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.runs.updates.LEASE_SECONDS", 0.1)
    monkeypatch.setattr("service.runs.updates.EVENT_SECONDS", 0.0)
    finish(submitted, "running", finished=None)
    done = delayline("runs", "watch", "fake", "--json")
    assert (done.code, done.document["state"]) == (4, "lost")
    assert "was lost" in done.err


def test_follows_logs_to_the_runs_end(delayline: Delayline, submitted: RunRecord) -> None:
    for rank in (0, 1):
        submitted.store.write(submitted.paths.log(submitted.label(1), rank), f"I am {rank} \x1b[2J\nand end".encode())
    finish(submitted, "failed")
    done = delayline("runs", "logs", "fake", "--follow")
    assert done.code == 0
    assert done.out == "I am 0 \N{REPLACEMENT CHARACTER}[2J\nand end\nI am 1 \N{REPLACEMENT CHARACTER}[2J\nand end\n"
    assert done.err.splitlines() == ["==> attempt 1, rank 0 <==", "==> attempt 1, rank 1 <==", "run fake is failed"]
    one = delayline("runs", "logs", "fake", "-f", "--rank", "1", "--json").document
    assert [(log["attempt"], log["rank"], log["text"][:6]) for log in one] == [(1, 1, "I am 1")]
    assert delayline("runs", "logs", "absent", "--follow").code == 2
