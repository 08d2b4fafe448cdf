"""The pages: whole, safe, light, and made of whatever a run has."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from support.html_pages import Outline, check

from jobs.reports.sections import NOT_FINISHED
from jobs.reports.write import compare, report, write_report
from service.errors import Damaged, InvalidInput, UnknownName
from service.records.notes import write_note
from service.records.run_record import RunRecord
from service.storage.json_documents import from_bytes, rows_to_bytes, to_bytes
from service.storage.local import LocalStore

WriteRun = Callable[..., RunRecord]


def test_the_page_of_a_run_holds_what_it_promises(write_run: WriteRun) -> None:
    outline = check(report(write_run()))
    headings = [
        re.sub(r"\s+", " ", text) for text in ("How it learnt", "What it gets right and wrong", "What the first layer sees")
    ]
    for words in [
        *headings,
        "90.00% of 200 test examples of digits right",
        "Over-fitting after epoch 4",
        "over-fitting",
        "28×28×1, 32 filters 5×5, same padding → 28×28×32",
        "(5·5·1 + 1)·32 = 832",
        "all-reduce",
        "was measured apart",
        "A peer was lost: Connection reset by peer",
        "8 checkpoints saved, from step 0 to step 140",
        "digits, version uci-1998",
        "python 3.12.1",
        "A processor of a long name",
        "learning_rate: 0.001",
        "delayline train a-run.yaml --name a-run-again",
        "delayline train 'my run.yaml'",
    ]:
        assert words in outline.text, words
    pictures = [attributes["alt"] for tag, attributes in outline.tags if tag == "img"]
    assert sum("predicted as" in str(alt) for alt in pictures) > 10
    assert "Filter 32 of 32" in pictures
    assert "Activation of filter 32" in pictures
    labels = [str(attributes.get("aria-label")) for tag, attributes in outline.tags if tag == "svg"]
    for words in ("Curve of the loss", "Curve of the accuracy", "Confusion matrix", "Where 1 min 17 s went", "Time line"):
        assert any(label.startswith(words) for label in labels), words


def test_texts_of_users_are_texts(write_run: WriteRun) -> None:
    page = report(write_run())
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "a &lt;b&gt;class&lt;/b&gt; &amp; $more$" in page


def test_a_note_stands_on_the_page_that_is_made_after_it(write_run: WriteRun) -> None:
    record = write_run()
    assert "Note:" not in report(record)
    write_note(record.store, record.run_id, "better <b>than</b> it looks")
    assert "Note: better <b>than</b> it looks" in check(report(record)).text


@pytest.mark.parametrize("state", ["queued", "running", "failed", "cancelled"])
@pytest.mark.parametrize("facts", [True, False])
def test_runs_that_did_not_succeed(write_run: WriteRun, state: str, facts: bool) -> None:
    error = {"kind": "user", "message": "the model failed", "traceback": "nets.py <line> 3"} if state == "failed" else None
    outline = check(report(write_run(state=state, facts=facts, error=error)))
    assert NOT_FINISHED in outline.text
    assert ("nets.py <line> 3" in outline.text) == (state == "failed")
    assert ("28×28×32" in outline.text) == (facts and state != "queued")


def test_a_run_that_has_only_begun(write_run: WriteRun) -> None:
    check(report(write_run(state="running", rows=[])))
    assert "No metrics have been written yet" in report(write_run("b-run", state="running", rows=[]))


@pytest.mark.parametrize("earlier", [True, False])
def test_many_classes(write_run: WriteRun, earlier: bool) -> None:
    names = [f"class {n}" for n in range(100)]
    page = report(write_run(classes=names, examples=3000, earlier=earlier))
    outline = check(page)
    assert any(
        "Confusion matrix of 100 classes" in str(attributes.get("alt")) for tag, attributes in outline.tags if tag == "img"
    )
    assert "<th>predicted</th>" in page


@pytest.mark.parametrize("count", [201, 10_000])
def test_of_very_many_classes_the_most_confused_are_drawn(write_run: WriteRun, count: int) -> None:
    """Here those of which the numbers end in 7 are predicted to be their neighbours, twice as often as others."""
    record = write_run(classes=[f"class {n}" for n in range(count)], examples=300)
    key = record.paths.results(record.label(2))
    found = from_bytes(record.store.read(key), key)
    wrong = [[number, number + 1, 40] for number in range(7, 77, 10)]
    named = {str(number): f"class {number}" for number in range(100)}
    document = {**found, "names": named, "pairs": sorted([*[[n, n, 3] for n in range(99)], [50, 60, 2], *wrong]), "examples": 579}
    record.store.write(key, to_bytes(document))
    page = report(record)
    outline = check(page)
    assert len(page.encode()) < 400_000
    (label,) = [str(a["aria-label"]) for tag, a in outline.tags if tag == "svg" and "onfusion" in str(a.get("aria-label"))]
    assert label.startswith(f"Confusion matrix of the 16 most confused of {count:,} classes") and "282 wrong" in label
    text = re.sub(r"\s+", " ", outline.text)
    assert f"These are the 16 of {count:,} classes with most mistakes" in text
    assert f"The lowest first. {count - 99:,} of the {count:,} classes have no example here." in text


def test_many_classes_of_an_earlier_run_have_no_matrix(write_run: WriteRun) -> None:
    outline = check(report(write_run(classes=[f"class {n}" for n in range(300)], examples=3000, earlier=True)))
    assert "With 300 classes a matrix would not be readable" in outline.text
    assert "The lowest first, 200 of 300." in outline.text


def test_a_class_without_test_examples_is_no_fault(write_run: WriteRun) -> None:
    text = check(report(write_run(classes=[f"class {n}" for n in range(30)], examples=20))).text
    assert "classes have no example here" in text


@pytest.mark.parametrize("count", [3, 10, 150])
def test_an_earlier_run_has_the_page_of_todays(write_run: WriteRun, count: int) -> None:
    names = [f"class {n}" for n in range(count)]
    made = [report(write_run(f"run-{earlier:d}", classes=names, examples=400, earlier=earlier)) for earlier in (True, False)]

    def section(page: str) -> str:
        return page[page.index('id="test"') : page.index("Most confident mistakes")]

    assert section(made[0]) == section(made[1])


@pytest.mark.parametrize("count", [10, 5000])
def test_runs_of_different_times_are_compared_class_by_class(write_run: WriteRun, store: LocalStore, count: int) -> None:
    names = [f"class {n}" for n in range(count)]
    write_run("old", classes=names, examples=300, earlier=True)
    write_run("new", classes=names, examples=300)
    outline = check(compare(store, ["old", "new"]))
    assert "Accuracy of each class" in outline.text and "class 9" in outline.text
    assert ("These are the 200 of 5,000 classes in which the runs differ most" in outline.text) == (count == 5000)
    write_run("other", classes=[f"sort {n}" for n in range(count)], examples=300)
    assert "Accuracy of each class" not in check(compare(store, ["old", "other"])).text


def test_what_was_left_out_of_the_analysis_is_said_where_it_is_missed(write_run: WriteRun) -> None:
    record = write_run()
    key = record.paths.results(record.label(2))
    found = from_bytes(record.store.read(key), key)
    names = ("pairs", "mistakes", "wrong", "first_layer", "examples")
    record.store.write(key, to_bytes({name: value for name, value in found.items() if name not in names}))
    why = "the report will lack what the model makes of the test examples: it would take 9 GiB"
    row = {"time": 1.0, "attempt": 2, "event": "left out of the analysis", "message": why}
    record.store.write(record.paths.events(record.label(2), "rank-0"), rows_to_bytes([row]))
    assert f"It was left out: {why}." in check(report(record)).text


def test_a_page_that_would_be_too_heavy_leaves_pictures_out(write_run: WriteRun, monkeypatch: pytest.MonkeyPatch) -> None:
    record = write_run(shape=(96, 96, 3))
    whole = report(record)
    assert "Some pictures are left out" not in whole
    monkeypatch.setattr("jobs.reports.page.MOST_BYTES", 400_000)
    lighter = report(record)
    assert len(lighter.encode()) <= 400_000 < len(whole.encode())
    assert "Some pictures are left out" in lighter


def test_long_runs_stay_light(write_run: WriteRun) -> None:
    rows = [
        {
            "epoch": 1 + step // 1000,
            "step": step,
            "loss": 1 / step,
            "accuracy": 0.5,
            "examples_per_second": 100.0,
            "val_loss": 0.1,
        }
        for step in range(1, 20_000)
    ]
    assert len(report(write_run(rows=rows)).encode()) < 500_000


def test_the_page_is_kept_in_the_store(write_run: WriteRun) -> None:
    record = write_run()
    page = write_report(record)
    assert record.store.read(record.paths.report).decode() == page


def test_an_unknown_run_has_no_page(store: LocalStore) -> None:
    with pytest.raises(UnknownName, match="There is no run 'absent'"):
        write_report(RunRecord(store, "absent"))


def test_damaged_pictures_are_named(write_run: WriteRun) -> None:
    record = write_run()
    record.store.write(record.paths.pictures(record.label(2)), b"nothing of the kind")
    with pytest.raises(Damaged, match=r"pictures\.safetensors"):
        report(record)


def three(write_run: WriteRun) -> LocalStore:
    write_run("first")
    write_run("second", spec={"seed": 3, "optimizer": {"name": "sgd", "learning_rate": 0.1}})
    record = write_run("third", state="running")
    store = record.store
    assert isinstance(store, LocalStore)
    return store


def cells(outline: Outline, page: str, row: str) -> list[str]:
    found = re.search(rf'<th scope="row">{re.escape(row)}</th>(.*?)</tr>', page)
    assert found, row
    return [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<td.*?</td>", found[1])]


def test_runs_side_by_side(write_run: WriteRun) -> None:
    page = compare(three(write_run), ["first", "second", "third"])
    outline = check(page)
    assert cells(outline, page, "state") == ["succeeded", "succeeded", "lost"]
    assert cells(outline, page, "test accuracy") == ["90.00%", "90.00%", "–"]
    assert cells(outline, page, "seed") == ["0", "3", "0"]
    assert cells(outline, page, "optimizer.name") == ["adam", "sgd", "adam"]
    assert not re.search(r'scope="row">batch<', page)
    labels = [str(attributes.get("aria-label")) for tag, attributes in outline.tags if tag == "svg"]
    assert [label.partition(":")[0] for label in labels] == [
        "Training loss",
        "Validation loss",
        "Training accuracy",
        "Validation accuracy",
        "Examples a second",
    ]
    assert all(label.count("ends at") == 3 for label in labels)


def test_the_best_of_each_figure_is_marked(write_run: WriteRun) -> None:
    store = three(write_run)
    record = RunRecord(store, "second")
    state = record.state()
    record.write_state(state.changed(metrics={**state.metrics, "test_accuracy": 0.95}))
    page = compare(store, ["first", "second"])
    assert "Best test accuracy: 95.00% by second; the next reaches 90.00%." in check(page).text
    row = re.search(r'<th scope="row">test accuracy</th>(.*?)</tr>', page)
    assert row
    assert re.findall(r'class="best">(.*?)</td>', row[1]) == ["95.00%"]


def test_the_same_run_twice_over_differs_in_nothing(write_run: WriteRun) -> None:
    store = three(write_run)
    write_run("again")
    assert "they are the same run, repeated" in check(compare(store, ["first", "again"])).text


@pytest.mark.parametrize(
    ("ids", "error", "words"),
    [
        (["first"], InvalidInput, "takes 2 to 16 runs, not 1"),
        ([f"run-{n}" for n in range(17)], InvalidInput, "takes 2 to 16 runs, not 17"),
        (["first", "first"], InvalidInput, "'first' is named twice"),
        (["first", "absent"], UnknownName, "There is no run 'absent'"),
    ],
)
def test_what_cannot_be_compared(write_run: WriteRun, ids: list[str], error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        compare(three(write_run), ids)
