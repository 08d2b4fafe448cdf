"""A run that a driver drives with played workers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.played_workers import Act, Play, QuickStore, Stage, Unhurried

from jobs.driving.driver import Driver
from jobs.driving.stops import Stops
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.settings import Settings
from service.specs.train import TrainSpec


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return RunRecord(QuickStore(tmp_path / "store"), "a-run")


@pytest.fixture
def stops() -> Unhurried:
    """What signals ask of the driver."""
    return Unhurried()


@pytest.fixture
def play(record: RunRecord, make_spec: Callable[..., TrainSpec], tmp_path: Path, stops: Unhurried) -> Play:
    """Drives the run with these acts to its end; `patience` is for workers that are asked to stop, `keys` are the spec's.

    `asked`: what signals ask of this driver, where another one comes after it.
    """

    def drive(
        *acts: Act,
        fresh: bool = False,
        stage: Stage | None = None,
        patience: float = 90.0,
        asked: Stops | None = None,
        **keys: Any,
    ) -> tuple[int, Stage]:
        played, spec = stage or Stage(record, list(acts)), make_spec(**keys)
        record.claim(spec)
        lease = Lease(record)
        assert lease.acquire()
        code = Driver(
            record=record,
            spec=spec,
            settings=Settings.load(store=str(tmp_path / "store")),
            lease=lease,
            folder=str(tmp_path),
            fresh_budget=fresh,
            say=lambda message: None,
            make_group=lambda *_: played,
            stops=asked or stops,
            watch_seconds=0.01,
            cancel_patience=patience,
        ).run()
        return code, played

    return drive
