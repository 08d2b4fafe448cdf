"""`delayline schema`; that all JSON of the other commands' tests fits it is asked in conftest.py."""

import copy
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support.json_schemas import check_output, validator
from support.sweeps_in_a_store import write_sweep

from service.records.command_answers import ANSWERS
from service.records.run_record import RunRecord
from service.storage.base import Store

Delayline = Callable[..., Any]


def test_prints_one_schema_or_all(delayline: Delayline) -> None:
    every = delayline("schema").document
    assert list(every) == list(ANSWERS)
    for name, schema in every.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert delayline("schema", name).document == schema
        assert f" {name}: " in " ".join(delayline("schema", "--help").out.split())


def test_an_unknown_name_is_refused(delayline: Delayline) -> None:
    done = delayline("schema", "rnu")
    assert (done.code, done.out) == (2, "")
    assert done.err == f"Error: There is no schema 'rnu': use one of {', '.join(ANSWERS)}.\n"


def test_runs_of_the_first_format_fit_it(delayline: Delayline, tmp_path: Path) -> None:
    with zipfile.ZipFile(Path(__file__).parents[2] / "data" / "first_store_format.zip") as archive:
        archive.extractall(tmp_path / "first")
    rows = delayline("runs", "list", "--trials", "--json", "--store", str(tmp_path / "first")).document
    assert len(rows) == 7
    for row in rows:
        assert delayline("runs", "show", row["id"], "--json", "--store", str(tmp_path / "first")).document["id"] == row["id"]


def test_a_sweep_and_a_damaged_run_fit_it(delayline: Delayline, local_store: Store, submitted: RunRecord) -> None:
    write_sweep(local_store, "swept")
    local_store.write(submitted.paths.state, b"{")
    assert {row["state"] for row in delayline("runs", "list", "--json").document} >= {"damaged"}
    document = delayline("runs", "show", "swept", "--json").document
    assert document["trials"] and document["best"]


def test_what_does_not_fit_is_seen(delayline: Delayline, submitted: RunRecord) -> None:
    """The schema is not one that lets everything pass."""
    document = delayline("runs", "show", "fake", "--json").document
    for name in document:
        less = {key: value for key, value in document.items() if key != name}
        with pytest.raises(jsonschema.ValidationError):
            validator("run").validate(less)
    for change in ({"colour": "red"}, {"state": "asleep"}, {"step": "7"}, {"attempts": [{"number": 1}]}):
        with pytest.raises(jsonschema.ValidationError):
            validator("run").validate({**copy.deepcopy(document), **change})
    with pytest.raises(jsonschema.ValidationError):
        check_output(["runs", "list", "--json"], "[{}]")
