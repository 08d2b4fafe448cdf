"""A sweep that a person, its budget or its limits end."""

import time
from typing import Any

import pytest
from support.trials_at_once import SPEC, Killed, Sweep, end, learns, states

from jobs.driving.stops import Stops
from jobs.worker_groups.base import Leaving
from jobs.worker_groups.ray_cluster import RayCluster
from service.records.run_record import RunRecord
from service.storage.base import Store


def test_a_trial_that_paused_once_may_be_cancelled_by_a_person(sweep: Sweep, local_store: Store) -> None:
    spec = SPEC.model_copy(update={"seeds": 1})

    def killed_as_it_paused(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        end(record, "cancelled", 0.3)
        trials = RunRecord(local_store, "s").trials()
        RunRecord(local_store, "s").write_trials([trials[0].changed(pauses=True), *trials[1:]])
        raise Killed

    def act(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        return learns(record, order) if order["id"] != "s-0000" else end(record, "cancelled", 0.3)

    with pytest.raises(Killed):
        sweep(killed_as_it_paused, spec)
    assert sweep(act, spec) == 0
    assert states(local_store) == ["cancelled", "succeeded", "succeeded"]


def test_a_request_to_stop_reaches_the_trials_and_begins_no_more(sweep: Sweep, local_store: Store) -> None:
    asked: list[str] = []

    def waits(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        RunRecord(local_store, "s").request_cancel()
        limit = time.monotonic() + 20
        while not record.cancel_requested() and time.monotonic() < limit:
            time.sleep(0.05)
        asked.append(order["id"])
        return end(record, "cancelled")

    assert sweep(waits) == 130
    assert asked == ["s-0000"]
    assert RunRecord(local_store, "s").state().state == "cancelled"
    assert not RunRecord(local_store, "s").cancel_requested()


def test_the_node_of_the_driver_is_taken_away_and_the_trials_save(
    sweep: Sweep, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops, leaving, taken = Stops(), [Leaving(frozenset({"n2"}))], iter(range(99))

    def terminate() -> None:
        stops.by = "signal"
        stops.wanted.set()

    stops.terminate = terminate
    monkeypatch.setattr(RayCluster, "leaving", lambda _: leaving[-1])

    def waits(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        if next(taken) == 0:
            # Another node's end is its trials' alone.
            time.sleep(1.5)
            return learns(record, order)
        leaving.append(Leaving(frozenset({"n1"}), driver=True))
        limit = time.monotonic() + 20
        while not record.cancel_requested() and time.monotonic() < limit:
            time.sleep(0.05)
        return end(record, "cancelled", 0.3)

    assert sweep(waits, stops=stops) == 4
    state = RunRecord(local_store, "s").state()
    assert (state.state, state.reason, state.was_interrupted) == ("retrying", "signal", True)
    assert states(local_store)[:2] == ["succeeded", "cancelled"]
    assert sweep(learns) == 0
    assert states(local_store) == ["succeeded"] * 6


def test_a_request_to_stop_counts_even_if_the_trials_end_before_the_watch_sees_it(sweep: Sweep, local_store: Store) -> None:
    def the_first_alone(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        if order["id"] != "s-0000":
            return {"over": True}
        RunRecord(local_store, "s").request_cancel()
        return learns(record, order)

    assert sweep(the_first_alone) == 130
    assert RunRecord(local_store, "s").state().state == "cancelled"
    assert states(local_store) == ["succeeded"] + ["queued"] * 5


def test_the_budget_stops_what_is_under_way_and_the_sweep_has_succeeded(sweep: Sweep, local_store: Store) -> None:
    spec = SPEC.model_copy(update={"budget": 0.2})

    def waits(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        limit = time.monotonic() + 20
        while not record.cancel_requested() and time.monotonic() < limit:
            time.sleep(0.05)
        return end(record, "cancelled", 0.3)

    assert sweep(waits, spec) == 0
    assert states(local_store)[0] == "stopped"
    assert RunRecord(local_store, "s").trials()[0].stopped.by == "budget"


def test_a_budget_is_not_begun_anew_by_a_driver_that_follows_a_killed_one(sweep: Sweep, local_store: Store) -> None:
    spec = SPEC.model_copy(update={"budget": 100.0})

    def killed(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        whole = RunRecord(local_store, "s")
        whole.write_progress(whole.progress().changed(used_seconds=99.9))
        raise Killed

    with pytest.raises(Killed):
        sweep(killed, spec)
    begun: list[str] = []

    def waits(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        begun.append(order["id"])
        limit = time.monotonic() + 20
        while not record.cancel_requested() and time.monotonic() < limit:
            time.sleep(0.05)
        return end(record, "cancelled", 0.3)

    assert sweep(waits, spec) == 0
    assert begun == ["s-0000"]


def test_trials_that_a_budget_stopped_are_resumed_with_a_larger_one(sweep: Sweep, local_store: Store) -> None:
    def waits(record: RunRecord, order: dict[str, Any]) -> dict[str, Any]:
        limit = time.monotonic() + 20
        while not record.cancel_requested() and time.monotonic() < limit:
            time.sleep(0.05)
        assert not RunRecord(local_store, "s").person_cancelled()
        return end(record, "cancelled", 0.3)

    assert sweep(waits, SPEC.model_copy(update={"budget": 0.2})) == 0
    assert states(local_store)[0] == "stopped"
    assert sweep(learns, SPEC.model_copy(update={"budget": 100.0})) == 0
    assert states(local_store) == ["succeeded"] * 6
