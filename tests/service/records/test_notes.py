import pytest

from service import runs
from service.errors import InvalidInput, UnknownName
from service.records.lease import Lease
from service.records.notes import LONGEST, with_notes, write_note
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.records.standing import cancel_without_driver
from service.records.submission_schemas import Origin
from service.runs.prune import choose, delete
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.storage.json_documents import to_bytes

SPEC = TrainSpec(model="cnn", dataset="digits", epochs=1)


def listed(store: Store) -> dict[str, str | None]:
    return {row.id: row.note for row in with_notes(store, runs.list_runs(store))}


def test_a_note_is_replaced_shown_and_deleted(local_store: Store) -> None:
    store = local_store
    for name in ("fake", "other"):
        assert RunRecord(store, name).claim(SPEC)
    for text in ("first", "naïve\nlearning rate ✓", "x" * LONGEST):
        write_note(store, "fake", text)
        assert RunRecord(store, "fake").note() == runs.show(store, "fake").note == text
        assert listed(store) == {"fake": text, "other": None}
    for nothing in ("", " \n"):
        write_note(store, "fake", nothing)
        assert listed(store) == {"fake": None, "other": None}
    write_note(store, "fake", "again")
    assert RunRecord(store, "fake").note() == "again"


@pytest.mark.parametrize("text", ["x" * (LONGEST + 1), "\udcff"])
def test_a_text_that_cannot_be_kept_is_refused_and_the_note_stays(submitted: RunRecord, text: str) -> None:
    write_note(submitted.store, "fake", "kept")
    with pytest.raises(InvalidInput, match=r"2,001 characters, but 2,000|no text in UTF-8"):
        write_note(submitted.store, "fake", text)
    assert submitted.note() == "kept"


def test_a_run_that_is_not_there_gets_no_note(local_store: Store) -> None:
    with pytest.raises(UnknownName, match="no run 'absent'"):
        write_note(local_store, "absent", "x")
    assert list(local_store.objects("runs/")) == []


def test_a_driver_that_lives_ends_or_starts_again_leaves_the_note(submitted: RunRecord) -> None:
    lease = Lease(submitted)
    assert lease.acquire()
    write_note(submitted.store, "fake", "kept")
    submitted.write_state(StateDocument(state="running", attempts=[]))
    lease.release()
    assert cancel_without_driver(submitted)
    assert RunRecord(submitted.store, "fake").note() == "kept"
    submitted.replace_spec(SPEC, Origin())
    assert listed(submitted.store) == {"fake": "kept"}


def test_a_note_goes_with_its_run_and_is_none_of_the_next_one_of_that_id(submitted: RunRecord) -> None:
    store = submitted.store
    write_note(store, "fake", "old")
    late = store.read(submitted.paths.note)
    assert cancel_without_driver(submitted)
    assert [each.run_id for each in choose(store, ["cancelled"])] == ["fake"]
    delete(store, "fake")
    assert list(store.objects(submitted.paths.root)) == []
    assert RunRecord(store, "fake").claim(SPEC)
    store.write(submitted.paths.note, late)
    assert RunRecord(store, "fake").note() is None
    assert listed(store) == {"fake": None}
    write_note(store, "fake", "new")
    assert listed(store) == {"fake": "new"}


def test_a_run_that_is_deleted_while_its_note_is_written_gets_none(submitted: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    store, found = submitted.store, RunRecord.submission
    asked: list[str] = []

    def submission(record: RunRecord) -> object:
        answer = found(record)
        if not asked:
            store.delete(record.paths.spec)
        asked.append(record.run_id)
        return answer

    monkeypatch.setattr(RunRecord, "submission", submission)
    with pytest.raises(UnknownName, match="deleted at this moment"):
        write_note(store, "fake", "x")
    assert list(store.objects(submitted.paths.root)) == []


def test_a_damaged_note_is_reported_and_hides_no_other_run(submitted: RunRecord) -> None:
    store = submitted.store
    assert RunRecord(store, "good").claim(SPEC)
    write_note(store, "good", "fine")
    store.write(submitted.paths.note, b"{")
    rows = {row.id: row for row in with_notes(store, runs.list_runs(store))}
    assert (rows["fake"].note, rows["good"].note) == (None, "fine")
    assert "note.json" in rows["fake"].note_error
    write_note(store, "good", "better")


def test_a_run_of_the_first_format_has_a_note(local_store: Store) -> None:
    local_store.write("runs/old/spec.json", to_bytes({"kind": "train", "spec": SPEC.document(), "submitted": 1.0}))
    write_note(local_store, "old", "kept")
    assert runs.show(local_store, "old").note == "kept"
    assert listed(local_store) == {"old": "kept"}
