"""Words, time line, breakdown and the command that repeats a run."""

import itertools
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jobs.reports.breakdown import break_down
from jobs.reports.curves import MOST_POINTS, rates, thinned
from jobs.reports.facts import gather
from jobs.reports.headline import headline
from jobs.reports.repeat import repeat_command, spec_text
from jobs.reports.timeline import MOST_EVENTS, Stretch, event_rows, scale_of, stretches
from jobs.reports.words import duration, listed, percent, plural
from service import recipes
from service.records.run_record import RunRecord
from service.specs.train import TrainSpec
from service.storage.json_documents import rows_to_bytes

WriteRun = Callable[..., RunRecord]


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (duration(0.04), "0.0 s"),
        (duration(9.94), "9.9 s"),
        (duration(59.6), "1 min 00 s"),
        (duration(3599.6), "1 h 00 min"),
        (percent(1.0), "100%"),
        (percent(0.99999), "99.99%"),
        (percent(0.975), "97.50%"),
        (percent(0.8996), "90.0%"),
        (listed(["a", "b", "c"]), "a, b and c"),
        (plural(1, "class"), "1 class"),
        (plural(1200, "class"), "1,200 classes"),
    ],
)
def test_words(made: str, text: str) -> None:
    assert made == text


@given(st.integers(1, 2000))
def test_long_curves_are_thinned_and_keep_their_ends(count: int) -> None:
    line = [(float(x), float(x)) for x in range(count)]
    kept = thinned(line)
    assert len(kept) == min(count, MOST_POINTS)
    assert (kept[0], kept[-1]) == (line[0], line[-1])
    assert kept == sorted(set(kept))


def stretch(begin: float, end: float) -> Stretch:
    return Stretch(1, begin, end, None, "failed", "", [])


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0.1, 1e4)), min_size=1, max_size=8))
def test_the_time_line_keeps_the_order_and_no_pause_dwarfs_the_attempts(pairs: list[tuple[float, float]]) -> None:
    rows, now = [], 0.0
    for pause, length in pairs:
        rows.append(stretch(now + pause, now + pause + length))
        now += pause + length
    scale = scale_of(rows)
    moments = [moment for row in rows for moment in (row.begin, row.end)]
    drawn = [scale(moment) for moment in moments]
    assert all(after >= before - 1e-6 for before, after in itertools.pairwise(drawn))
    active = sum(row.end - row.begin for row in rows)
    assert drawn[-1] - drawn[0] <= active * (1 + 0.31 * len(rows)) + 1


def test_an_attempt_is_told_with_its_start_of_training(write_run: WriteRun) -> None:
    first, second = stretches(gather(write_run()))
    assert (first.begin, first.trained, first.end) == (0.0, 9.0, 38.0)
    assert first.label == "attempt 1: 2 workers, 38 s, failed"
    assert second.outcome == "succeeded"
    assert len(first.checkpoints) == 8


def test_checkpoints_in_a_row_are_told_together_and_many_events_cut(write_run: WriteRun) -> None:
    record = write_run()
    kinds = ["checkpoint"] * 300 + ["early stop"] + ["resumed"] * 100
    rows = [{"time": 2e9 + n, "attempt": 2, "event": kind, "message": f"{kind} {n}", "step": n} for n, kind in enumerate(kinds)]
    record.store.write(record.paths.events(record.label(2), "rank-0"), rows_to_bytes(rows))
    shown, left_out = event_rows(gather(record))
    messages = [row["message"] for row in shown]
    assert "300 checkpoints saved, from step 0 to step 299" in messages
    assert "8 checkpoints saved, from step 0 to step 140" in messages
    assert len(shown) == MOST_EVENTS
    assert left_out == 2 + 1 + 1 + 2 + 1 + 1 + 100 - MOST_EVENTS


def test_rates_leave_out_what_lies_between_attempts() -> None:
    rows = [{"step": step, "time": time} for step, time in [(10, 100.0), (20, 101.0), (30, 150.0), (40, 152.0)]]
    assert rates(rows, 64, None, [90.0, 120.0]) == [(20.0, 640.0), (40.0, 320.0)]
    assert rates(rows, 64, 10, [90.0]) == [(2.0, 640.0), (3.0, 640 / 49), (4.0, 320.0)]


def test_the_parts_of_the_time_add_up(write_run: WriteRun) -> None:
    facts = gather(write_run())
    found = break_down(facts)
    assert found is not None
    assert found.total == pytest.approx(38 + 39)
    assert sum(part.seconds for part in found.parts) == pytest.approx(found.total)
    parts = {part.name: part.seconds for part in found.parts}
    assert parts["all-reduce"] == pytest.approx(0.0021 * 190)
    assert parts["compute"] == pytest.approx(21 - 3 - 0.0021 * 190)
    assert parts["start-up"] == pytest.approx(9 + 9)
    assert found.examples_per_second == pytest.approx(190 * 64 / 18)


def test_what_was_not_measured_is_not_said_to_be_nothing(write_run: WriteRun) -> None:
    found = break_down(gather(write_run(state="failed")))
    assert found is not None
    assert "all-reduce" not in {part.name for part in found.parts}
    assert "measured at a run's end" in found.parts[0].meaning
    assert break_down(gather(write_run("new", state="queued"))) is None


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("succeeded", "90.00% of 200 test examples of digits right (test loss 0.3100) after 10 epochs, 200 steps in 1 min 20 s by 2 workers."),
        ("failed", "Failed at step 200 of 200 (accuracy 97.46% in training): The loss became nan."),
        ("cancelled", "Cancelled at step 200 of 200 (accuracy 97.46% in training); `delayline train --resume --name a-run` goes on."),
        ("running", "Lost at step 200 of 200"),
    ],
)  # fmt: skip
def test_the_result_in_one_line(write_run: WriteRun, state: str, words: str) -> None:
    error = {"kind": "user", "message": "The loss became nan.", "traceback": ""} if state == "failed" else None
    assert headline(gather(write_run(state=state, error=error))).startswith(words)


def resolved(command: str, folder: Path) -> dict[str, Any]:
    """The spec that a `delayline train` command asks for."""
    words = shlex.split(command)
    assert words[:2] == ["delayline", "train"]
    overrides = [words[index + 1] for index, word in enumerate(words) if word == "-s"]
    return recipes.resolve(words[2], overrides, None, folder)[0].document()


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("cnn-digits", []),
        ("cnn-digits", ["epochs=3", "workers=1-4"]),
        ("cnn-mnist", ["model_params={}", "optimizer=sgd", "seed=7"]),
        ("cnn-mnist", ["steps=50", "epochs=null"]),
        ("cnn-mnist", ["seed=1", "epochs=2", "batch=64", "log_every=5", "retries=0", "workers=2", "label_smoothing=0.1"]),
    ],
)  # fmt: skip
def test_the_command_repeats_the_very_spec(write_run: WriteRun, tmp_path: Path, recipe: str, changes: list[str]) -> None:
    spec, _ = recipes.resolve(recipe, changes, None, tmp_path)
    record = RunRecord(write_run("other").store, "a-run")
    version = "uci-1998" if spec.dataset == "digits" else "v1"
    record.claim(TrainSpec.model_validate(spec.document()), {"recipe": recipe, "dataset_version": version, "command": []})
    facts = gather(record)
    (tmp_path / "a-run.yaml").write_text(spec_text(facts))
    wanted = {**spec.document(), "dataset": "digits" if spec.dataset == "digits" else f"{spec.dataset}@v1"}
    assert resolved(repeat_command(facts), tmp_path) == wanted
    assert TrainSpec.model_validate(yaml.safe_load(spec_text(facts))).document() == wanted
