"""Texts stay texts for every reader of YAML; tests/integration/kubernetes/test_manifests.py has the API server's."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from service.cluster.kube_yaml import dump


@pytest.mark.parametrize("text", ["y", "N", "1e3", "0o7", "7", "1_0", "-.inf", "~", "true", "", "12:30"])
def test_what_another_reader_takes_for_something_else_is_quoted(text: str) -> None:
    assert dump({"label": text}) == f"label: '{text}'\n"


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())))
def test_what_is_written_is_read_again(document: dict[str, object]) -> None:
    assert yaml.safe_load(dump(document)) == document


def test_what_occurs_twice_is_written_twice() -> None:
    again = ["a"]
    assert dump({"one": again, "two": again}) == "one:\n- a\ntwo:\n- a\n"
