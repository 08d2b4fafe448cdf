"""The lines of a run's charts."""

from hypothesis import given
from hypothesis import strategies as st

from jobs.reports.curves import MOST_POINTS, points, rates, thinned
from service.records.schemas import Row


@given(st.integers(1, 2000))
def test_long_curves_are_thinned_and_keep_their_ends(count: int) -> None:
    line = [(float(x), float(x)) for x in range(count)]
    kept = thinned(line)
    assert len(kept) == min(count, MOST_POINTS)
    assert (kept[0], kept[-1]) == (line[0], line[-1])
    assert kept == sorted(set(kept))


def test_rates_leave_out_what_lies_between_attempts() -> None:
    rows = [Row(step=step, time=time) for step, time in [(10, 100.0), (20, 101.0), (30, 150.0), (40, 152.0)]]
    assert rates(rows, 64, None, [90.0, 120.0]) == [(20.0, 640.0), (40.0, 320.0)]
    assert rates(rows, 64, 10, [90.0]) == [(2.0, 640.0), (3.0, 640 / 49), (4.0, 320.0)]


def test_points_are_those_of_the_rows_that_have_the_metric() -> None:
    found = [{"step": 10, "loss": 2.0}, {"step": 20, "loss": "none"}, {"step": 30}, {"step": 40, "loss": 1, "time": 5.0}]
    rows = [Row.model_validate(row) for row in found]
    assert points(rows, "loss", None) == [(10.0, 2.0), (40.0, 1.0)]
    assert points(rows, "loss", 10) == [(1.0, 2.0), (4.0, 1.0)]
    assert points(rows, "time", None) == points(rows, "val_loss", None) == []
