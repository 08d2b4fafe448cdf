from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.answered_rows import listed_row

from service.errors import InvalidInput
from service.runs.choice import STATES, check_choice, choose_rows, parse_limit, parse_since

rows_of = st.lists(
    st.fixed_dictionaries(
        {
            "state": st.sampled_from(STATES),
            "dataset": st.sampled_from(["digits", "digits@v1", "mnist", "digits, mnist", None]),
            "model": st.sampled_from(["cnn", "dense", "cnn, dense", "my_nets:build"]),
            "submitted": st.one_of(st.none(), st.floats(0, 100)),
        }
    ).map(lambda fields: listed_row(**fields)),
    max_size=20,
)


def some(values: Any) -> Any:
    return st.lists(st.sampled_from(values), max_size=2)


@given(rows_of, some(STATES), some(["digits", "digits@v1", "mnist"]), some(["cnn", "dense"]), st.one_of(st.none(), st.just(50.0)))
def test_rows_are_those_that_every_option_alone_chooses(rows: Any, states: Any, datasets: Any, models: Any, since: Any) -> None:
    found = choose_rows(rows, states, datasets, models, since)
    alone = [
        choose_rows(rows, states),
        choose_rows(rows, (), datasets),
        choose_rows(rows, (), (), models),
        choose_rows(rows, since=since),
    ]
    assert found == [row for row in rows if all(row in each for each in alone)]
    assert choose_rows(rows) == rows


@given(rows_of)
def test_a_value_that_stands_twice_adds_what_it_alone_chooses(rows: Any) -> None:
    both = choose_rows(rows, ["failed", "lost"])
    assert both == [row for row in rows if row.state in ("failed", "lost")]


def test_a_dataset_without_a_version_stands_for_all_of_them_and_a_sweep_for_each_of_its_bases() -> None:
    rows = [
        listed_row(id=name, state="failed", dataset=name)
        for name in ("digits", "digits@a", "digits@b", "mnist, digits@a", "mnist")
    ]
    assert [row.id for row in choose_rows(rows, datasets=["digits"])] == ["digits", "digits@a", "digits@b", "mnist, digits@a"]
    assert [row.id for row in choose_rows(rows, datasets=["digits@a"])] == ["digits@a", "mnist, digits@a"]


def test_a_state_that_there_is_not_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidInput, match=r"--state 'done' is not a state of a run: use queued, .*succeeded"):
        check_choice(["failed", "done"])


def test_every_tag_that_is_asked_for_must_be_there() -> None:
    rows = [
        listed_row(id="a", state="failed", tags=["x"]),
        listed_row(id="b", state="failed", tags=["x", "y"]),
        listed_row(id="c", state="damaged"),
    ]
    assert [[row.id for row in choose_rows(rows, tags=tags)] for tags in ([], ["x"], ["y", "x"])] == [
        ["a", "b", "c"],
        ["a", "b"],
        ["b"],
    ]
    with pytest.raises(InvalidInput, match="--tag 'No' is not a tag"):
        check_choice(tags=["No"])


def test_since_is_a_length_of_time_or_a_date() -> None:
    assert parse_since("7d", 1e6) == 1e6 - 7 * 86400
    assert parse_since("1h30m", 1e6) == 1e6 - 5400
    assert parse_since("2026-11-01T14:30") - parse_since("2026-11-01") == 14.5 * 3600
    assert parse_since("2026-11-01T00:00:00+00:00") == 1793491200


@pytest.mark.parametrize("value", ["", "yesterday", "7", "7 weeks", "2026-13-01", "01.11.2026", "-7d", "0001-01-01" * 9])
def test_another_since_is_refused_in_one_sentence(value: str) -> None:
    with pytest.raises(InvalidInput, match=r"neither a length of time nor a date: write 7d, 12h, 2026-11-01"):
        parse_since(value)


def test_a_limit_is_a_number_or_all() -> None:
    assert (parse_limit("7"), parse_limit("0"), parse_limit("all")) == (7, None, None)
    for wrong in ("-1", "some", "1.5", "", "²"):
        with pytest.raises(InvalidInput, match="is not a number of runs"):
            parse_limit(wrong)
