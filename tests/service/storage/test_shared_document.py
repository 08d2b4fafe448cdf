"""A shared document: whoever did not see the last version writes nothing, and says so."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service.errors import Conflict, LeaseLost, StoreUnreachable
from service.storage.base import Store
from service.storage.json_documents import Document, from_bytes, to_bytes
from service.storage.shared_document import SharedDocument

MakeStore = Callable[[], Store]
KEY = "runs/one/state.json"


def content(store: Store) -> Document:
    return {name: value for name, value in from_bytes(store.read(KEY), KEY).items() if name not in ("format", "revision")}


def test_what_is_written_is_read(store: Store) -> None:
    document = SharedDocument(store, KEY)
    assert document.read() == {} and document.seen
    document.write({"state": "running"})
    document.write({"state": "succeeded"})
    assert SharedDocument(store, KEY).read()["state"] == "succeeded" and content(store) == {"state": "succeeded"}


def test_a_stale_writer_writes_nothing_until_it_reads_again(make_store: MakeStore) -> None:
    first, second = (SharedDocument(make_store(), KEY) for _ in range(2))
    first.read()
    first.write({"by": "first"})
    second.read()
    second.write({"by": "second"})
    for _ in range(2):
        with pytest.raises(LeaseLost, match=r"written runs/one/state\.json .* this one stops"):
            first.write({"by": "first, late"})
        assert content(make_store()) == {"by": "second"}
    first.read()
    first.write({"by": "first, again"})
    assert content(make_store()) == {"by": "first, again"}


def test_a_writer_that_never_looked_replaces_nothing(make_store: MakeStore) -> None:
    SharedDocument(make_store(), KEY).write({"by": "first"})
    with pytest.raises(LeaseLost):
        SharedDocument(make_store(), KEY).write({"by": "second"})
    assert content(make_store()) == {"by": "first"}


def test_a_document_that_was_deleted_is_not_written_anew(make_store: MakeStore) -> None:
    document = SharedDocument(make_store(), KEY)
    document.write({"step": 1})
    make_store().delete(KEY)
    with pytest.raises(LeaseLost):
        document.write({"step": 2})
    assert not make_store().exists(KEY)


def test_a_document_that_comes_back_to_what_it_was_has_changed(make_store: MakeStore) -> None:
    first, second = (SharedDocument(make_store(), KEY) for _ in range(2))
    first.write({"step": 1})
    second.read()
    second.write({"step": 2})
    second.write({"step": 1})
    with pytest.raises(LeaseLost):
        first.write({"step": 3})
    assert content(make_store()) == {"step": 1}


def lose_answers(store: Store, monkeypatch: pytest.MonkeyPatch, *, written: bool) -> Callable[[], None]:
    """Let the next writes of a store raise StoreUnreachable, after they were done or instead; what is returned ends that."""
    write = store.write

    def lost(*arguments: Any, **conditions: Any) -> str:
        if written:
            write(*arguments, **conditions)
        raise StoreUnreachable("The store did not answer.")

    monkeypatch.setattr(store, "write", lost)
    return lambda: monkeypatch.setattr(store, "write", write)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("written", [False, True])
def test_an_answer_that_was_lost_is_no_other_writer(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, before: bool, written: bool
) -> None:
    store = make_store()
    document = SharedDocument(store, KEY)
    if before:
        document.write({"step": 0})
    let_answers_come = lose_answers(store, monkeypatch, written=written)
    with pytest.raises(StoreUnreachable):
        document.write({"step": 1})
    let_answers_come()
    document.write({"step": 2})
    assert content(make_store()) == {"step": 2}


def test_after_a_lost_answer_another_writer_still_wins(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store()
    document = SharedDocument(store, KEY)
    let_answers_come = lose_answers(store, monkeypatch, written=True)
    with pytest.raises(StoreUnreachable):
        document.write({"step": 1})
    let_answers_come()
    SharedDocument(make_store(), KEY).update(lambda found: {**found, "by": "successor"})
    with pytest.raises(LeaseLost):
        document.write({"step": 2})
    assert content(make_store()) == {"step": 1, "by": "successor"}


def test_no_update_of_many_at_once_is_lost(make_store: MakeStore) -> None:
    def add(number: int) -> None:
        SharedDocument(make_store(), KEY).update(lambda found: {"seen": sorted([*found.get("seen", []), number])})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    assert content(make_store()) == {"seen": [0, 1, 2, 3]}


def test_an_update_that_wants_nothing_writes_nothing(store: Store) -> None:
    document = SharedDocument(store, KEY)
    assert document.update(lambda found: None) == {} and not store.exists(KEY)


def test_an_update_that_always_comes_second_is_an_error(local_store: Store) -> None:
    def change(found: Document) -> Document:
        SharedDocument(local_store, KEY).update(lambda found: {"count": found.get("count", 0) + 1})
        return {"count": -1}

    with pytest.raises(Conflict, match="changed by others all the time"):
        SharedDocument(local_store, KEY).update(change)


def test_what_a_deleted_runs_process_wrote_late_counts_as_absent(store: Store) -> None:
    SharedDocument(store, KEY, nonce="0ld0ld0l").write({"step": 900})
    document = SharedDocument(store, KEY, nonce="11112222")
    assert document.read() == {}
    document.write({"step": 1})
    assert document.read()["step"] == 1 and content(store) == {"step": 1, "nonce": "11112222"}


def test_a_document_of_the_first_format_is_this_runs(store: Store) -> None:
    store.write(KEY, to_bytes({"step": 7}))
    document = SharedDocument(store, KEY, nonce="11112222")
    assert document.read()["step"] == 7
    document.write({"step": 8})
    assert content(store) == {"step": 8, "nonce": "11112222"}
