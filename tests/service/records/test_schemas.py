import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.errors import Damaged
from service.records.checkpoint_schemas import CheckpointManifest
from service.records.schemas import ENDED, Event, Failure, LeaseDocument, ProgressDocument, Row, RunState, StateDocument
from service.records.stored_document import StoredDocument, fitted
from service.records.submission_schemas import SubmissionDocument
from service.records.sweep_schemas import TrialsDocument
from service.runs.choice import STATES
from service.runs.prune import PRUNABLE


@pytest.mark.parametrize("state", RunState)
def test_every_state_is_explained_listed_and_prunable_only_when_nobody_drives_it(state: RunState) -> None:
    assert re.search(rf"\n    - .*`{state}`", str(RunState.__doc__))
    assert state in STATES
    assert (state in ENDED) == state.is_ended
    assert (state in PRUNABLE) == (state.is_ended or state in ("lost", "damaged"))


STORED = {
    "state.json": StateDocument,
    "spec.json": SubmissionDocument,
    "lease.json": LeaseDocument,
    "progress.json": ProgressDocument,
    "trials.json": TrialsDocument,
    "manifest.json": CheckpointManifest,
}


def documents(folder: Path) -> Iterator[tuple[str, type[StoredDocument], dict[str, Any]]]:
    """Every document of a store that has a type, its rows of events and of metrics too."""
    for file in sorted(folder.rglob("*.json*")):
        name, kind = file.relative_to(folder).as_posix(), file.parent.name
        if "analysis" in file.parts:
            continue
        model = STORED.get(file.name) or {"failures": Failure, "events": Event}.get(kind) or {".jsonl": Row}.get(file.suffix)
        assert model is not None, name
        for line in file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]:
            yield name, model, json.loads(line)


def test_documents_of_the_first_format_fit_and_lose_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(Path(__file__).parents[2] / "data" / "first_store_format.zip") as archive:
        archive.extractall(tmp_path)
    seen = set()
    for name, model, document in documents(tmp_path / "runs"):
        assert fitted(model, document, name).document() == document
        seen.add(model)
    assert seen == {*STORED.values(), Failure, Event, Row}


def test_what_a_newer_version_adds_is_kept() -> None:
    attempt = {"number": 1, "started": 1.0, "colour": "red"}
    document = {"format": 1, "state": "running", "attempts": [attempt], "later": {"a": 1}}
    assert fitted(StateDocument, document, "key").document() == document


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({}, "state is missing"),
        ({"state": "asleep"}, "state is 'asleep'"),
        ({"state": "running", "attempts": [{"number": 1}]}, "attempts.0.started is missing"),
        ({"state": "running", "attempts": 7}, "attempts is '7'"),
        ({"state": "running", "error": {"message": None}}, "error.message is 'None'"),
    ],
)
def test_what_does_not_fit_names_its_key_and_the_field(document: dict[str, Any], why: str) -> None:
    with pytest.raises(Damaged, match=re.escape(f"object runs/a/state.json is not as Delayline writes it: {why}")):
        fitted(StateDocument, document, "runs/a/state.json")
