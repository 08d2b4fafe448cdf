"""Attempts and events along the time."""

import itertools
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from jobs.reports.facts import gather
from jobs.reports.timeline import MOST_EVENTS, Stretch, event_rows, scale_of, stretches
from service.records.run_record import RunRecord
from service.storage.json_documents import rows_to_bytes

WriteRun = Callable[..., RunRecord]


def stretch(begin: float, end: float) -> Stretch:
    return Stretch(1, begin, end, None, "failed", "", [])


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0.1, 1e4)), min_size=1, max_size=8))
def test_the_time_line_keeps_the_order_and_no_pause_dwarfs_the_attempts(pairs: list[tuple[float, float]]) -> None:
    rows, now = [], 0.0
    for pause, length in pairs:
        rows.append(stretch(now + pause, now + pause + length))
        now += pause + length
    scale = scale_of(rows)
    moments = [moment for row in rows for moment in (row.begin, row.end)]
    drawn = [scale(moment) for moment in moments]
    assert all(after >= before - 1e-6 for before, after in itertools.pairwise(drawn))
    active = sum(row.end - row.begin for row in rows)
    assert drawn[-1] - drawn[0] <= active * (1 + 0.31 * len(rows)) + 1


def test_an_attempt_shows_when_its_training_began(write_run: WriteRun) -> None:
    first, second = stretches(gather(write_run()))
    assert (first.begin, first.trained, first.end) == (0.0, 9.0, 38.0)
    assert first.label == "attempt 1: 2 workers, 38 s, failed"
    assert second.outcome == "succeeded"
    assert len(first.checkpoints) == 8


def test_checkpoints_in_a_row_are_one_line_and_many_events_are_cut(write_run: WriteRun) -> None:
    record = write_run()
    kinds = ["checkpoint"] * 300 + ["early stop"] + ["resumed"] * 100
    rows = [{"time": 2e9 + n, "attempt": 2, "event": kind, "message": f"{kind} {n}", "step": n} for n, kind in enumerate(kinds)]
    record.store.write(record.paths.events(record.label(2), "rank-0"), rows_to_bytes(rows))
    shown, left_out = event_rows(gather(record))
    messages = [row["message"] for row in shown]
    assert "300 checkpoints saved, from step 0 to step 299" in messages
    assert "8 checkpoints saved, from step 0 to step 140" in messages
    assert len(shown) == MOST_EVENTS
    assert left_out == 2 + 1 + 1 + 2 + 1 + 1 + 100 - MOST_EVENTS
