"""The lines of a run's charts."""

from hypothesis import given
from hypothesis import strategies as st

from jobs.reports.curves import MOST_POINTS, rates, thinned


@given(st.integers(1, 2000))
def test_long_curves_are_thinned_and_keep_their_ends(count: int) -> None:
    line = [(float(x), float(x)) for x in range(count)]
    kept = thinned(line)
    assert len(kept) == min(count, MOST_POINTS)
    assert (kept[0], kept[-1]) == (line[0], line[-1])
    assert kept == sorted(set(kept))


def test_rates_leave_out_what_lies_between_attempts() -> None:
    rows = [{"step": step, "time": time} for step, time in [(10, 100.0), (20, 101.0), (30, 150.0), (40, 152.0)]]
    assert rates(rows, 64, None, [90.0, 120.0]) == [(20.0, 640.0), (40.0, 320.0)]
    assert rates(rows, 64, 10, [90.0]) == [(2.0, 640.0), (3.0, 640 / 49), (4.0, 320.0)]
