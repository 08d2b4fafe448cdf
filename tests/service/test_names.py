import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.names import LONGEST, check_dataset_reference, check_label, check_run_id, new_run_id


@pytest.mark.parametrize("name", ["a", "7", "cnn-2", "a--b", "x" * LONGEST])
def test_accepts_labels(name: str) -> None:
    assert check_run_id(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../up",
        "a/b",
        "a\\b",
        "A",
        "first Run",
        "-a",
        "a-",
        "a.b",
        "a\n",
        "ä",
        "x" * (LONGEST + 1),
        "x" * 300,
        "a\x00",
        "٣",
    ],
)
def test_refuses_what_is_no_label_in_one_short_sentence(name: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        check_run_id(name)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 250


@given(st.text(max_size=80))
def test_a_new_run_id_is_valid_whatever_the_stem(stem: str) -> None:
    assert check_run_id(new_run_id(stem))


def test_new_run_ids_begin_with_the_stem_and_differ() -> None:
    made = {new_run_id("My Spec_2") for _ in range(50)}
    assert len(made) > 45
    assert all(name.startswith("my-spec-2-") for name in made)


def test_splits_a_dataset_reference() -> None:
    assert check_dataset_reference("mnist") == ("mnist", None)
    assert check_dataset_reference("mnist@v1") == ("mnist", "v1")


@pytest.mark.parametrize("reference", ["mnist@", "@v1", "mnist@v1@v2", "../mnist", "mnist@../x"])
def test_refuses_a_bad_dataset_reference(reference: str) -> None:
    with pytest.raises(InvalidInput):
        check_dataset_reference(reference)


def test_names_what_is_wrong() -> None:
    with pytest.raises(InvalidInput, match="The split 'Train'"):
        check_label("Train", "The split")
