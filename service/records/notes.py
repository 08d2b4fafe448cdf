"""A person's note on a run: one text, in a document that no driver writes or deletes."""

import time
from collections.abc import Sequence

from service.errors import Damaged, InvalidInput, LeaseLost, UnknownName
from service.records.answers import DamagedRow, RunRow
from service.records.run_record import RunRecord
from service.records.schemas import NoteDocument
from service.records.stored_document import read_document
from service.records.submission_schemas import SubmissionDocument
from service.records.submissions import is_deleted
from service.storage.base import Store
from service.storage.paths import RunPaths

LONGEST = 2000
"""Characters of a note."""


def write_note(store: Store, run_id: str, text: str) -> None:
    """Replace a run's note, by none where the text is empty; raise UnknownName, or InvalidInput for a text that cannot be kept.

    Of several people who write at the same time the last one's is kept.
    """
    if len(text) > LONGEST:
        raise InvalidInput(f"The note has {len(text):,} characters, but {LONGEST:,} at most are kept: shorten it.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput("The note is no text in UTF-8: write it in a terminal whose encoding is UTF-8.") from None
    record = RunRecord(store, run_id)
    record.submission()
    noted = NoteDocument(text=text if text.strip() else "", written=time.time())
    # An empty one stays as a document: a deletion could not name the version that it deletes.
    record.shared(record.paths.note).update(lambda _: noted.document())
    try:
        record.check_claim()
    except LeaseLost:
        if not store.exists(record.paths.spec):
            store.delete(record.paths.note)
        raise UnknownName(f"The run {run_id!r} was deleted at this moment: its note is not kept.") from None


def with_notes(store: Store, rows: Sequence[RunRow | DamagedRow]) -> list[RunRow | DamagedRow]:
    """The rows of `list_runs` with the note of each: a request for each row, many at a time."""
    paths = {row.id: RunPaths(row.id) for row in rows}
    notes = store.read_many([path.note for path in paths.values()])
    # What somebody wrote late on a deleted run of this id carries that run's nonce.
    specs = store.read_many([path.spec for path in paths.values() if path.note in notes])
    return [row.model_copy(update=_note_of(paths[row.id], notes, specs)) for row in rows]


def _note_of(path: RunPaths, notes: dict[str, bytes], specs: dict[str, bytes]) -> dict[str, str | None]:
    if path.note not in notes or path.spec not in specs or is_deleted(specs[path.spec]):
        return {"note": None}
    try:
        note = read_document(NoteDocument, notes[path.note], path.note)
        spec = read_document(SubmissionDocument, specs[path.spec], path.spec)
    except Damaged as error:
        return {"note": None, "note_error": str(error)}
    return {"note": (note.text or None) if note.nonce == spec.nonce else None}
