"""The page of a run that remembers bits, and heat maps of hidden states."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from jobs.reports.facts import gather
from jobs.reports.headline import headline
from jobs.reports.memory import memory
from jobs.reports.states import signed
from jobs.reports.write import compare, report
from service.records.run_record import RunRecord
from service.storage.json_documents import from_bytes, to_bytes
from service.storage.local import LocalStore

WriteRun = Callable[..., RunRecord]
SPEC = {"model": "lstm", "dataset": "bits", "task": "bit-memory", "dataset_params": {"delay": 3, "length": 8}}


def remembered(write_run: WriteRun, run_id: str = "a-run", units: int = 5, **keys: Any) -> RunRecord:
    """A run with one wrong bit in the picture: the last of the second sequence."""
    record = write_run(run_id, classes=["0", "1"], spec={**SPEC, **keys})
    store, paths, label = record.store, record.paths, record.label(2)
    facts = paths.model_facts(label)
    store.write(facts, to_bytes({**from_bytes(store.read(facts), ""), "chance": 0.5}))
    targets = np.random.default_rng(0).integers(0, 2, (12, 8)).astype(np.uint8)
    targets[:, :3] = 255
    outputs = np.where(targets == 1, 200, 20).astype(np.uint8)
    outputs[1, 7] = 20 if targets[1, 7] else 200
    states = {"name": "lstm", "kind": "LSTM", "units": units, "steps": 8, "reach": 0.75}
    found = {"sequences": 400, "bits": 2000, "right": 1990, "by_step": [None] * 3 + [1.0, 1.0, 1.0, 0.99, 0.98], "shown": [0]}
    document = {"attempt": 2, "of": 400, "classes": ["0", "1"], "memory": found, "states": [states], "all_reduce_seconds": 0.0}
    store.write(paths.results(label), to_bytes(document))
    picture = np.random.default_rng(1).integers(0, 256, (5, 8), np.uint8)
    store.write(paths.pictures(label), save({"memory-targets": targets, "memory-outputs": outputs, "states-0": picture}))
    return record


def test_the_page_shows_the_memory_in_place_of_classes(write_run: WriteRun) -> None:
    page = report(remembered(write_run))
    for words in ("What it remembers", "1,990 of the 2,000 bits of 400 test sequences right", "guesses would give 50.0%"):
        assert words in page
    assert "Accuracy at each step" in page and "over 8 steps: 1 wrong bits" in page
    assert "What the hidden units hold" in page and "All 5 units" in page and "full is 0.75" in page
    assert "Confusion matrix" not in page and "first-layer" not in page
    assert "not learnt" not in page


def test_chance_stands_at_the_top_and_in_the_curve(write_run: WriteRun) -> None:
    record = remembered(write_run)
    assert headline(gather(record)).startswith("90.00% of the bits of 200 test sequences of bits right (chance 50.0%, test loss")
    page = report(record)
    assert "<dt>chance</dt><dd>50.0%</dd>" in page and "chance 50.0% at the end" not in page


CHAIN = {"model": "simple-rnn", "model_params": {"start": "chain"}}


@pytest.mark.parametrize(
    ("keys", "used"),
    [
        ({}, True),
        ({"space": {"name": "target", "initial": "weights"}}, True),
        ({"space": {"name": "target", "initial": "random"}}, False),
        ({"init_from": "another"}, False),
    ],
)
def test_a_chain_that_was_used_is_shown_apart_from_what_was_learnt(write_run: WriteRun, keys: dict[str, Any], used: bool) -> None:
    assert ("given, not learnt" in report(remembered(write_run, **CHAIN, **keys))) == used


@pytest.mark.parametrize("state", ["running", "failed"])
def test_a_run_without_an_end_says_why_there_is_no_picture(write_run: WriteRun, state: str) -> None:
    page = report(write_run(state=state, spec=SPEC, error={"kind": "user", "message": "m"} if state == "failed" else None))
    assert "What it remembers" in page and "This comes with the end of a run that succeeds" in page


def test_other_runs_have_no_memory(write_run: WriteRun) -> None:
    record = write_run()
    assert memory(gather(record), "") is None
    page = report(record)
    assert "What it remembers" not in page and "What the hidden units hold" not in page


def test_only_part_of_a_wide_layer_is_shown_and_said_to_be(write_run: WriteRun) -> None:
    assert "The first 5 of 300 units" in report(remembered(write_run, units=300))


def test_runs_that_remember_are_compared_without_classes(write_run: WriteRun, store: LocalStore) -> None:
    remembered(write_run, "one"), remembered(write_run, "two"), write_run("three")
    assert "one" in compare(store, ["one", "two", "three"])


def test_a_comparison_names_the_chains_among_its_runs(write_run: WriteRun, store: LocalStore) -> None:
    remembered(write_run, "learnt"), remembered(write_run, "chained", **CHAIN)
    remembered(write_run, "drawn", **CHAIN, space={"name": "target"})
    page = compare(store, ["learnt", "chained", "drawn"])
    assert "chained: The recurrence began as a chain" in page and page.count("given, not learnt") == 1


def test_zero_is_clear_and_signs_have_colours_of_their_own() -> None:
    low, zero, high = signed(np.array([[1, 128, 255]], np.uint8))[0]
    assert zero[3] == 0 and low[3] == high[3] == 254
    assert tuple(low[:3]) != tuple(high[:3])
