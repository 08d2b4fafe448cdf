import pytest

from service.errors import Damaged
from service.storage.json_documents import from_bytes, rows_from_bytes, rows_to_bytes, to_bytes


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 200_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"format": 1, "x": ' + b"9" * 5000 + b"}",
        b'{"format": 1, "x": NaN}',
        b'{"format": 1, "x": -Infinity}',
        b"[1]",
        b'"x"',
        b"null",
        b"\xff",
        b"",
    ],
)
def test_what_is_no_document_is_damaged(data: bytes) -> None:
    with pytest.raises(Damaged, match="The store's object key "):
        from_bytes(data, "key")
    row = data if b"\n" not in data else b"["
    assert rows_from_bytes(rows_to_bytes([{"step": 1}]) + row + b"\n") == ([{"step": 1}])


def test_a_document_comes_back() -> None:
    assert from_bytes(to_bytes({"x": [1, "a", None, 0.5]}), "key") == {"format": 1, "x": [1, "a", None, 0.5]}
