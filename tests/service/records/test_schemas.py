import re

import pytest

from service.records.schemas import ENDED, RunState
from service.runs.choice import STATES
from service.runs.prune import PRUNABLE


@pytest.mark.parametrize("state", RunState)
def test_every_state_is_explained_listed_and_prunable_only_when_nobody_drives_it(state: RunState) -> None:
    assert re.search(rf"\n    - .*`{state}`", str(RunState.__doc__))
    assert state in STATES
    assert (state in ENDED) == state.is_ended
    assert (state in PRUNABLE) == (state.is_ended or state in ("lost", "damaged"))
