"""The JSON documents and rows that the store keeps, as bytes and back."""

import json
from typing import Any

from service.errors import Damaged

FORMAT = 1

Document = dict[str, Any]


def to_bytes(document: Document) -> bytes:
    """A JSON document of this format, for the store."""
    return json.dumps({"format": FORMAT, **document}, indent=1, allow_nan=False).encode()


def from_bytes(data: bytes, key: str) -> Document:
    """Parse a JSON document; raise Damaged when it is none, or of a format from the future."""
    try:
        document = _parsed(data)
    except ValueError as error:
        raise Damaged(f"The store's object {key} is not the JSON that Delayline wrote; restore it or delete it.") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise Damaged(
            f"The store's object {key} has no format {FORMAT}: it was made by another version of Delayline; use that version."
        )
    return document


def rows_from_bytes(data: bytes) -> list[Document]:
    """Parse JSON lines; a last line that was cut off, and what follows a line that is no row, is dropped."""
    rows = []
    for line in data.splitlines():
        try:
            row = _parsed(line)
        except ValueError:
            break
        if not isinstance(row, dict):
            break
        rows.append(row)
    return rows


def _parsed(data: bytes) -> Any:
    """JSON as Delayline writes it, without NaN and infinity; raise ValueError, also for what is nested without end."""
    try:
        return _DECODER.decode(data.decode(json.detect_encoding(data), "surrogatepass"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refused(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refused)
"""Made once: json.loads makes one for each document, which takes as long as to parse a short one."""


def rows_to_bytes(rows: list[Document]) -> bytes:
    """JSON lines."""
    return b"".join(json.dumps(row, allow_nan=False).encode() + b"\n" for row in rows)
