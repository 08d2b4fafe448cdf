"""A sweep driven with a stand-in for Ray Tune."""

from typing import Any

import pytest
from support.trials_at_once import SPEC, Act, Sweep

from jobs.driving.stops import Stops
from jobs.sweeps import driver as sweep_driver
from jobs.sweeps.driver import SweepDriver
from jobs.sweeps.tune import Capacity
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.records.submission_schemas import Origin
from service.settings import Settings
from service.specs.sweep import SweepSpec
from service.storage.base import Store


@pytest.fixture
def sweep(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Drives the sweep `s`, each trial as `act` says; returns the exit code."""
    monkeypatch.setattr(sweep_driver, "connect", lambda *_: Capacity(1, {"CPU": 1.0}, True, None))

    def drive(act: Act, spec: SweepSpec = SPEC, stops: Stops | None = None) -> int:
        def run_trials(sweep: Any, first: Any, capacity: Any, trials: Any, folder: Any) -> None:
            while (order := trials.take()) is not None:
                trials.ended(order["id"], act(RunRecord(local_store, order["id"]), order))

        monkeypatch.setattr(sweep_driver, "run_trials", run_trials)
        record = RunRecord(local_store, "s")
        record.claim(spec, Origin(recipe="mine", folder="/somewhere", dataset_version="7"))
        lease = Lease(record)
        assert lease.acquire()
        try:
            return SweepDriver(
                record=record,
                spec=spec,
                settings=Settings.load(store=local_store.url),
                lease=lease,
                folder="/somewhere",
                say=lambda _: None,
                stops=stops or Stops(),
                reports=False,
            ).run()
        finally:
            lease.release()

    return drive
