"""Documents read from bytes in one step, against the two steps that say what such a document is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Damaged
from service.records.schemas import Event, LeaseDocument, ProgressDocument, Row, RunState, StateDocument
from service.records.stored_document import StoredDocument, fitted, read_document, read_documents
from service.records.submission_schemas import SubmissionDocument
from service.storage.json_documents import from_bytes, rows_from_bytes, to_bytes

KEY = "runs/a/state.json"
NAMES = sorted(
    {name for kind in (StateDocument, SubmissionDocument, LeaseDocument, ProgressDocument) for name in kind.model_fields}
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([*RunState, "train", "sweep", "NaN", "-Infinity", "1.5", "2"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*NAMES, "number", "rank", "pid", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(st.sampled_from([*NAMES, "from a newer version"]), VALUES, max_size=5)
KINDS = st.sampled_from([StateDocument, SubmissionDocument, LeaseDocument, ProgressDocument])


def outcome(read: Any) -> tuple[Any, ...]:
    """What came of reading: the document, which of its fields were there and in which order; or the error's words."""
    try:
        found = read()
    except Damaged as error:
        return (str(error),)
    return repr(found), found.model_fields_set, list(found.document())


def assert_as_in_two_steps(kind: type[StoredDocument], data: bytes) -> None:
    one = outcome(lambda: read_document(kind, data, KEY))
    assert one == outcome(lambda: fitted(kind, from_bytes(data, KEY), KEY))


@given(KINDS, DOCUMENTS, st.sampled_from([1, 1, 1, 2, True, "1", None]))
def test_one_step_gives_what_two_give(kind: type[StoredDocument], document: dict[str, Any], number: Any) -> None:
    required = {"state": "running", "spec": {}, "token": "t", "host": "h", "pid": 1}
    for whole in (document, {**required, **document}, {**document, **required}):
        assert_as_in_two_steps(kind, json.dumps({"format": number, **whole}).encode())


@given(KINDS, st.binary(max_size=40))
def test_what_is_no_document_is_damaged_as_in_two_steps(kind: type[StoredDocument], data: bytes) -> None:
    assert_as_in_two_steps(kind, data)
    assert_as_in_two_steps(kind, to_bytes({"state": "running"})[: len(data)] + data)


@pytest.mark.parametrize(
    "text",
    [
        '{"format": 1, "state": "running", "state": "failed"}',
        '{"format": 1, "state": "running", "metrics": {"loss": NaN}}',
        '{"format": 1, "state": "running", "metrics": {"loss": 1e999}}',
        '{"format": 1, "state": "running", "metrics": {"NaN": 1}}',
        '{"format": 1, "state": "running", "reason": "\\ud800"}',
        '{"format": 1, "state": "running", "attempt": ' + "9" * 5000 + "}",
        '{"format": 1, "state": "running", "x": ' + "[" * 150 + "]" * 150 + "}",
        '{"format": 1, "state": "running", "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"format": 1.0, "state": "running"}',
        '{"format": 2, "state": "running"}',
        '{"state": "running"}',
        '[{"format": 1}]',
        '\ufeff{"format": 1, "state": "running"}',
        ' {"format": 1, "state": "running"}\n',
        '{"format": 1, "state": "running"} x',
    ],
)
def test_json_that_parsers_differ_on(text: str) -> None:
    assert_as_in_two_steps(StateDocument, text.encode())
    assert_as_in_two_steps(StateDocument, text.encode("utf-16"))


ROWS = st.lists(
    st.dictionaries(
        st.sampled_from(["step", "epoch", "time", "event", "message", "loss", "metrics", "value"]), VALUES, max_size=5
    )
    | st.integers(),
    max_size=4,
)


@given(st.sampled_from([Row, Event]), ROWS, st.integers(0, 30), st.booleans())
def test_rows_are_read_in_one_step_as_in_two(kind: type[StoredDocument], rows: list[Any], cut: int, whole: bool) -> None:
    filled = [{"step": 1, "time": 0.5, "event": "e", **row} if whole and isinstance(row, dict) else row for row in rows]
    data = b"".join(json.dumps(row).encode() + b"\n" for row in filled)
    data = data[: len(data) - cut]

    def read(apart: bool) -> list[StoredDocument] | str:
        try:
            return [fitted(kind, row, KEY) for row in rows_from_bytes(data)] if apart else read_documents(kind, data, KEY)
        except Damaged as error:
            return str(error)

    assert repr(read(False)) == repr(read(True))
