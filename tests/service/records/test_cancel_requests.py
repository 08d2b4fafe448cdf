"""A request to stop stands until it is handled or withdrawn; none is lost as a run goes from one driver to the next."""

from collections.abc import Callable

import pytest

from service.records.cancel_requests import PERSON, SWEEP, TIME_LIMIT
from service.records.run_record import RunRecord
from service.storage.base import Store
from service.storage.json_documents import to_bytes

MakeStore = Callable[[], Store]


@pytest.fixture
def make_record(make_store: MakeStore) -> Callable[[], RunRecord]:
    return lambda: RunRecord(make_store(), "one")


def end(record: RunRecord, state: str = "cancelled") -> None:
    """As a driver does."""
    document = record.state()
    record.write_state(record.with_handled_cancel(document.changed(state=state)))


def test_a_request_stands_until_a_driver_has_ended_by_it(make_record: Callable[[], RunRecord]) -> None:
    person, driver = make_record(), make_record()
    assert not driver.cancel_requested()
    person.request_cancel()
    assert driver.cancel_requested() and driver.person_cancelled()
    end(driver)
    assert not driver.cancel_requested() and not make_record().cancel_requested()
    driver.write_state(driver.state().changed(state="running"))
    assert driver.state().handled_cancel and not make_record().cancel_requested(), "what was handled stays handled"
    person.request_cancel()
    assert make_record().cancel_requested(), "the next one is another"


def test_a_request_that_comes_as_a_driver_takes_over_stands(make_record: Callable[[], RunRecord]) -> None:
    first, second = make_record(), make_record()
    first.request_cancel()
    end(first)
    second.take_state(lambda state: state.changed(state="starting"))
    make_record().request_cancel()
    assert second.cancel_requested()


def test_who_resumes_a_run_withdraws_the_request_that_they_saw_and_nothing_newer(make_record: Callable[[], RunRecord]) -> None:
    person = make_record()
    person.request_cancel()
    seen = person.cancel.standing().id
    end(make_record())
    make_record().request_cancel()
    make_record().cancel.withdraw(request=seen)
    assert make_record().cancel_requested()
    make_record().cancel.withdraw(request=make_record().cancel.standing().id)
    assert not make_record().cancel_requested()
    make_record().cancel.withdraw(PERSON)


def test_a_persons_request_is_not_weakened_and_outweighs_others(make_record: Callable[[], RunRecord]) -> None:
    record = make_record()
    record.request_cancel(SWEEP)
    first = record.cancel.standing().id
    record.request_cancel(SWEEP)
    assert record.cancel.standing().id == first and not record.person_cancelled()
    record.request_cancel()
    person = record.cancel.standing().id
    for reason in (SWEEP, TIME_LIMIT, PERSON):
        make_record().request_cancel(reason)
    make_record().cancel.withdraw(SWEEP, TIME_LIMIT)
    assert make_record().cancel.standing().id == person != first


def test_requests_of_the_first_format_are_understood(local_store: Store) -> None:
    record = RunRecord(local_store, "one")
    local_store.write(record.paths.cancel, to_bytes({"time": 12.5, "reason": "budget"}))
    assert record.cancel.standing().document() | {"format": 1} == {"format": 1, "time": 12.5, "reason": "budget", "id": "12.5"}
    end(record)
    assert not RunRecord(local_store, "one").cancel_requested()
    local_store.write(record.paths.cancel, to_bytes({"time": 13.5}))
    assert RunRecord(local_store, "one").person_cancelled()


def test_a_poll_without_a_request_is_one_read(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    record = RunRecord(local_store, "one", "0123abcd")
    read, keys = local_store.read, list[str]()
    monkeypatch.setattr(local_store, "read", lambda key: keys.append(key) or read(key))
    assert not record.cancel_requested() and keys == [record.paths.cancel]
