"""Rows of lists and of sweeps as the commands answer them, with what a test does not say left empty."""

from typing import Any

from service.records.answers import RunRow, TrialRow
from service.records.schemas import RunState


def listed_row(**fields: Any) -> RunRow:
    """A row of `runs list`."""
    empty = dict.fromkeys(RunRow.model_fields)
    known = {
        "id": "a",
        "kind": "train",
        "state": RunState.SUCCEEDED,
        "tags": (),
        "metrics": {},
        "attempts": 0,
        "sweep": "",
        "note_error": "",
    }
    return RunRow.model_validate({**empty, **known, **fields})


def trial_row(**fields: Any) -> TrialRow:
    """A trial of a sweep and how it stands."""
    nothing = dict.fromkeys(("epoch", "epochs", "step", "steps", "started", "finished", "error"))
    known = {
        "id": "s-0000",
        "number": 0,
        "point": 0,
        "base": "b",
        "params": {},
        "seed": 0,
        "state": "succeeded",
        "metrics": {},
        "attempts": (),
    }
    return TrialRow.model_validate({**nothing, **known, **fields})
