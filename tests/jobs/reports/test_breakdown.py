"""Where a run's time went."""

from collections.abc import Callable

import pytest

from jobs.reports.breakdown import break_down
from jobs.reports.facts import gather
from service.records.run_record import RunRecord

WriteRun = Callable[..., RunRecord]


def test_the_parts_of_the_time_add_up(write_run: WriteRun) -> None:
    facts = gather(write_run())
    found = break_down(facts)
    assert found is not None
    assert found.total == pytest.approx(38 + 39)
    assert sum(part.seconds for part in found.parts) == pytest.approx(found.total)
    parts = {part.name: part.seconds for part in found.parts}
    assert parts["all-reduce"] == pytest.approx(0.0021 * 190)
    assert parts["compute"] == pytest.approx(21 - 3 - 0.0021 * 190)
    assert parts["start-up"] == pytest.approx(9 + 9)
    assert found.examples_per_second == pytest.approx(190 * 64 / 18)


def test_what_was_not_measured_is_not_said_to_be_nothing(write_run: WriteRun) -> None:
    found = break_down(gather(write_run(state="failed")))
    assert found is not None
    assert "all-reduce" not in {part.name for part in found.parts}
    assert "measured at a run's end" in found.parts[0].meaning
    assert break_down(gather(write_run("new", state="queued"))) is None
