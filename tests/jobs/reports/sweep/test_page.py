"""The page of a sweep: whole, safe, light, and made of whatever a sweep has."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.html_pages import Outline, check
from support.sweeps_in_a_store import DELAYS, DIGITS, DRAWN, SETTLED, by_rate, write_sweep

from jobs.reports.sweep.facts import gather_sweep
from jobs.reports.sweep.page import render_sweep
from jobs.reports.write import compare, report, write_report
from service import runs
from service.errors import InvalidInput, UnknownName
from service.records.notes import write_note
from service.records.remarks import REMARK
from service.records.run_record import RunRecord
from service.records.sweep_schemas import Mutation
from service.storage.json_documents import rows_to_bytes
from service.storage.local import LocalStore
from service.sweeps.points import Points
from service.sweeps.trials import best_of, point_rows, results_of

STATES = {3: "failed", 5: "failed", 8: "running", 9: "queued", 20: "cancelled", 60: "stopped"}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def figures(outline: Outline) -> list[str]:
    return [str(attributes.get("aria-label")) for tag, attributes in outline.tags if tag == "svg"]


def test_the_page_of_a_sweep_holds_what_it_promises(store: LocalStore) -> None:
    outline = check(report(write_sweep(store, states=STATES)))
    text = re.sub(r"\s+", " ", outline.text)
    for words in [
        "Swept base (lstm & <b>co</b>, gru and elman) and delay (8 values from 2 to 256), each point with 3 seeds",
        "72 trials, 66 succeeded, 2 failed, 1 ",
        "Best: base lstm & <b>co</b> and delay",
        "over 3 seeds",
        "Analysis of variance on",
        "delayline train best.yaml",
        "delay: ",
        "The loss became nan <at> step 3: lower the learning rate.",
        "asha: after 1 evaluations it was not among the best",
        "2 trials <run> side by side",
        "2 trials failed",
        "a-sweep.yaml",
        "delayline sweep 'my sweep.yaml'",
    ]:
        assert words in text, words
    assert [label.partition(",")[0].partition(":")[0] for label in figures(outline)] == [
        "val_accuracy against delay",
        "Parallel coordinates of 24 points; the best",
        "Curves of val_accuracy of 40 trials",
        "Curves of val_loss of 40 trials",
    ]
    assert "gru: best mean" in figures(outline)[0]
    assert figures(outline)[0].endswith("guesses give 50.0%.")
    assert ">chance</text>" in report(RunRecord(store, "a-sweep"))


def test_a_trial_that_reached_its_goal_is_shown_apart_from_one_that_learned_no_more(store: LocalStore) -> None:
    policy = {"metric": "val_accuracy", "goal": 0.7, "patience": 3}
    (base, *_) = DELAYS["base"]
    longer = {**base, "values": {**base["values"], "epochs": 9, "early_stopping": policy}}
    record = write_sweep(store, spec={**DELAYS, "base": [longer]})
    for trial in record.trials():
        run = RunRecord(store, trial.id)
        run.write_progress(run.progress().changed(epochs=9))
    _, *rows = rows_of(report(record), 'aria-label="Trials, the best first"')
    good = [float(row[6].rstrip("%")) > 70 for row in rows]
    assert {(row[-1], right) for row, right in zip(rows, good, strict=True)} == {
        ("early stopping: val_accuracy is better than 0.7", True),
        ("early stopping: the metric stopped improving", False),
    }


def rows_of(page: str, heading: str) -> list[list[str]]:
    table = page[page.index(heading) :]
    table = table[: table.index("</table>")]
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>.*?</tr>", table)]
    return [[re.sub(r"<[^>]*>", "", cell) for cell in row] for row in cells]


def test_the_table_has_the_best_first_and_says_why_others_ended(store: LocalStore) -> None:
    page = report(write_sweep(store, states=STATES))
    head, *rows = rows_of(page, 'aria-label="Trials, the best first"')
    assert head == [
        *["rank", "trial", "base", "delay", "seed", "state", "epochs", "val_accuracy"],
        *["test_accuracy", "test_loss", "val_loss", "why it ended"],
    ]
    assert len(rows) == 72
    shares = [float(row[7].rstrip("%")) for row in rows if row[7] != "–"]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) == 72 - 3
    assert [row[5] for row in rows[-2:]] == ["failed", "failed"]
    stopped = next(row for row in rows if row[5] == "stopped")
    assert (stopped[6], stopped[11]) == ("1 of 4", "asha: after 1 evaluations it was not among the best")


@pytest.mark.parametrize("best", ["chain", "orthogonal"])
def test_a_chain_that_is_the_best_is_shown_apart_from_what_was_learnt(store: LocalStore, best: str) -> None:
    values = {"model": "simple-rnn", "dataset": "bits", "task": "bit-memory", "epochs": 4, "batch": 20}
    starts = {"model_params.start": {"grid": ["chain", "orthogonal"]}}
    spec = {"base": [{"name": "rnn", "values": values}], "space": starts}
    record = write_sweep(store, spec=spec, measure=lambda trial: 0.5 + 0.4 * (trial["params"]["model_params.start"] == best))
    text = re.sub(r"\s+", " ", check(report(record)).text)
    assert f"Best: start {best}, with val_accuracy 90.00%." in text
    assert ("90.00%. The recurrence began as a chain, which delays by construction" in text) == (best == "chain")


def test_a_random_search_over_numbers_and_words(store: LocalStore) -> None:
    outline = check(report(write_sweep(store, spec=DRAWN, measure=by_rate)))
    text = re.sub(r"\s+", " ", outline.text)
    assert "Swept learning_rate (1e-05 to 0.1), dropout (0 to 0.6), width (8 to 256), batch (16, 32 and 64)" in text
    assert "noise follows from the others and is not counted" in text
    assert sum(label.startswith("val_accuracy against") for label in figures(outline)) == 4
    assert "Numbers with many values were put into bins" in text
    first = rows_of(report(RunRecord(store, "a-sweep")), 'id="importance"')[1]
    assert first[0] == "learning_rate"
    assert "could be chance" not in first[2]


def test_the_best_of_a_population_says_with_what_it_was_trained_before(store: LocalStore) -> None:
    space = {"optimizer.learning_rate": {"loguniform": [1e-5, 1e-1]}, "optimizer.momentum": {"uniform": [0.5, 0.9]}}
    values = {**DIGITS[0]["values"], "optimizer": {"name": "sgd"}}
    base = [{"name": "small", "values": values}]
    spec = {"base": base, "space": space, "search": "random", "trials": 6, "scheduler": "pbt"}
    record = write_sweep(store, "population", spec, lambda trial: 0.9 - trial["number"] / 100)
    trials = record.trials()
    first, last = {"optimizer.learning_rate": 0.00125, "optimizer.momentum": 0.5}, trials[0].params
    mutation = Mutation(step=40, donor="population-0003", params=last)
    record.write_trials([trials[0].changed(first_params=first, mutations=(mutation,)), *trials[1:]])
    text = re.sub(r"\s+", " ", check(report(record)).text)
    assert "with pbt" in text
    assert "These are its last values. It began with learning_rate 0.00125, momentum 0.5" in text
    assert f"from step 40 of population-0003 on learning_rate {last['optimizer.learning_rate']:.4g}" in text
    record.write_trials([trial.without("mutations") for trial in trials])
    assert "These are its last values" not in check(report(record)).text


def test_without_numbers_each_value_has_a_row(store: LocalStore) -> None:
    outline = check(report(write_sweep(store, spec=SETTLED, measure=lambda trial: 0.9 + 0.01 * (trial["number"] % 5))))
    assert [label.partition(":")[0] for label in figures(outline)[:2]] == [
        "val_accuracy against activation",
        "val_accuracy against optimizer",
    ]


@pytest.mark.parametrize("state", ["queued", "running", "failed", "cancelled"])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_sweeps_that_have_only_begun(store: LocalStore, state: str, count: int) -> None:
    for name in ("failed", "running", "succeeded"):
        record = write_sweep(store, f"{name}-sweep", state=state, count=count, states=dict.fromkeys(range(count), name))
        outline = check(report(record))
        told = count > 0 and name != "failed" and state != "queued"
        assert ("No trial has reported val_accuracy yet." in outline.text) == (not told)


@pytest.mark.parametrize(("metric", "mode"), [("val_loss", "min"), ("test_accuracy", "max"), ("loss", "min")])
def test_other_metrics(store: LocalStore, metric: str, mode: str) -> None:
    record = write_sweep(
        store, spec={**DELAYS, "metric": metric, "mode": mode}, measure=lambda trial: 1e-4 * 2 ** trial["number"]
    )
    outline = check(report(record))
    assert any(label.startswith(f"{metric} against delay") for label in figures(outline))
    assert any(label.startswith("Curves of ") for label in figures(outline))


def test_ten_thousand_trials_stay_light(store: LocalStore) -> None:
    facts = gather_sweep(write_sweep(store, spec=DRAWN, measure=by_rate))
    points = Points(facts.sweep)
    trials = []
    for number in range(10_000):
        point = points.point(number)
        trial = facts.trials[number % 50].changed(
            id=f"a-sweep-{number:05}",
            number=number,
            point=number,
            params=point.params,
        )
        value = by_rate(trial)
        failed = (
            {"state": "failed", "error": {"kind": "user", "message": f"reason {number // 50 % 40}"}} if number % 50 == 0 else {}
        )
        trials.append(trial.changed(metrics={"val_accuracy": value}, **failed))
    trials.sort(key=lambda trial: (trial.state == "failed", -trial.metrics["val_accuracy"]))
    best, means = best_of(trials, "val_accuracy", "max"), point_rows(trials, "val_accuracy", "max")
    page = render_sweep(replace(facts, trials=trials, points=means, best=best))
    outline = check(page)
    assert len(page.encode()) < 1_500_000
    assert "10,000 trials, 9,800 succeeded and 200 failed" in re.sub(r"\s+", " ", outline.text)
    assert "9,800 more trials are left out" in outline.text
    assert "28 more reasons left out" in outline.text


def test_a_page_that_would_be_too_heavy_leaves_rows_out(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    record = write_sweep(store)
    whole = report(record)
    monkeypatch.setattr("jobs.reports.sweep.page.MOST_BYTES", len(whole.encode()) - 2000)
    assert "22 more trials are left out" in report(record)
    monkeypatch.setattr("jobs.reports.sweep.page.MOST_BYTES", 0)
    assert "has all 72 trials" in check(report(record)).text


def test_the_page_is_kept_in_the_store(store: LocalStore) -> None:
    record = write_sweep(store)
    page = write_report(record)
    assert store.read(record.paths.report).decode() == page


def test_the_page_of_a_trial_names_its_sweep_and_repeats_it_without_its_recipe(store: LocalStore) -> None:
    write_sweep(store, count=3)
    outline = check(report(RunRecord(store, "a-sweep-0001")))
    assert "a trial of the sweep a-sweep" in re.sub(r"\s+", " ", outline.text)
    assert "delayline train a-sweep-0001.yaml" in outline.text


def test_two_trials_are_compared_and_a_sweep_by_its_best(store: LocalStore) -> None:
    record = write_sweep(store)
    outline = check(compare(store, ["a-sweep-0000", "a-sweep-0009"]))
    assert "dataset_params.delay" in outline.text
    best = gather_sweep(record).best
    assert best is not None
    text = check(compare(store, ["a-sweep", "a-sweep-0040"])).text
    assert f"{best.trial} stands for the sweep a-sweep: it is its best trial." in text
    write_sweep(store, "other", spec=SETTLED, measure=lambda trial: 0.8)
    assert "stands for the sweep other" in check(compare(store, ["a-sweep", "other"])).text


def test_what_a_sweep_cannot_be_compared_with(store: LocalStore) -> None:
    record = write_sweep(store)
    best = gather_sweep(record).best
    write_sweep(store, "new", state="queued")
    assert best is not None
    for ids, error, words in (
        (["a-sweep", "new"], InvalidInput, "The sweep 'new' has no best trial to compare: none has reported val_accuracy"),
        (["a-sweep", best.trial], InvalidInput, "named twice, once as the best trial of the sweep 'a-sweep'"),
        ([best.trial, "a-sweep"], InvalidInput, "named twice, once as the best trial of the sweep 'a-sweep'"),
        (["a-sweep", "absent"], UnknownName, "There is no run 'absent'"),
    ):
        known: Any = error
        with pytest.raises(known, match=words):
            compare(store, ids)


def test_a_sweep_whose_best_trial_was_deleted_has_a_page(store: LocalStore) -> None:
    record = write_sweep(store)
    best = gather_sweep(record).best
    assert best is not None
    store.delete(RunRecord(store, best.trial).paths.spec)
    assert f"The best trial, {best.trial}, was deleted from the store." in check(report(record)).text


def test_what_is_said_of_the_best_trials_model_is_said_of_the_sweep(store: LocalStore) -> None:
    record = write_sweep(store, states=STATES)
    best = results_of(record, "val_accuracy", "max").best.trial
    trial = RunRecord(store, best)
    said = {"time": 1.0, "event": REMARK, "message": "The model 'nets:build' ends with a <softmax>."}
    store.write(trial.paths.events(trial.label(1), "driver"), rows_to_bytes([said]))
    write_note(store, record.run_id, "of <the> sweep")
    assert "Note: of <the> sweep" in check(report(record)).text
    assert runs.show(store, record.run_id).remarks == (said["message"],)
    assert said["message"] in check(report(record)).text
