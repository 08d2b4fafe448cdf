"""Which runs that have ended are driven once more."""

import json
from typing import Any

import pytest

from jobs.driving import entry as driving
from service.records.run_record import RunRecord
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec
from service.storage.base import Store

BASE = {"model": "lenet5", "dataset": "digits", "epochs": 1}
SWEEP = SweepSpec.model_validate({"base": [{"name": "b", "values": BASE}], "space": {"batch": {"grid": [16, 32]}}, "budget": 60})
MORE = ("--spec-changes", json.dumps({**SWEEP.document(), "budget": 120.0}))


@pytest.mark.parametrize(
    ("spec", "state", "options", "driven"),
    [
        (SWEEP, "cancelled", ("--resume",), True),
        (SWEEP, "cancelled", (), False),
        (SWEEP, "succeeded", ("--resume",), False),
        (SWEEP, "succeeded", MORE, False),
        (SWEEP, "succeeded", ("--resume", *MORE), True),
        (TrainSpec.model_validate(BASE), "failed", ("--resume",), True),
        (TrainSpec.model_validate(BASE), "succeeded", ("--resume",), False),
    ],
)
def test_resume_drives_what_did_not_succeed_and_a_sweep_that_goes_further(
    spec: TrainSpec | SweepSpec, state: str, options: tuple[str, ...], driven: bool, local_store: Store
) -> None:
    record = RunRecord(local_store, "r")
    record.claim(spec, {})
    record.write_state({"state": state, "attempts": [], "exit_code": 0, "used_seconds": 60.1})
    arguments = driving.parser("sweep", "none").parse_args(["--run", "r", "--store", local_store.url, *options])

    def never(*_: Any) -> str:
        raise AssertionError("the run is claimed")

    assert driving.take_and_drive(arguments, never, lambda *_: 7) == (7 if driven else 0)
