"""What counts as a retry: a failure without a new checkpoint since the one before."""

from collections.abc import Sequence

from service.records.schemas import SIGNAL, Attempt, RunState

LONGEST_PAUSE = 30.0
"""Seconds between two attempts at most (assumed: what a node takes to restart)."""
NODE_TAKEN = "a node was taken away"
"""Why an attempt ended one of whose nodes the system took: it says so some seconds before."""
MORE_ROOM = "there is room for more workers"
"""Why an attempt of an elastic run ended that saved and went on with more."""
_NO_FAILURES = frozenset({RunState.CANCELLED, SIGNAL, NODE_TAKEN, MORE_ROOM})
"""Why an attempt ended that somebody ended on purpose."""


def failures_in_a_row(attempts: Sequence[Attempt], first: int) -> int:
    """How many of the attempts from number `first` on have failed since one saved a checkpoint beyond all before it.

    `saved` is the newest checkpoint's step at an attempt's end: a run that loses a node every few thousand steps gets on, and one
    that fails at the same step again and again does not.
    """
    count, newest = 0, 0
    for attempt in attempts:
        if (attempt.saved or 0) > newest:
            count, newest = 0, attempt.saved or 0
        if attempt.number >= first and attempt.reason not in _NO_FAILURES:
            count += 1
    return count


def pause_after(failures: int) -> float:
    """Seconds before the next attempt."""
    return float(min(LONGEST_PAUSE, 2.0 ** min(failures, 10) / 2))
