"""Which of the listed runs somebody asks for."""

import time
from collections.abc import Sequence
from datetime import datetime

from service.errors import InvalidInput
from service.names import is_label
from service.records.answers import DamagedRow, RunRow
from service.records.schemas import RunState
from service.specs.quantities import parse_duration
from service.specs.tags import LONGEST

STATES = tuple(state.value for state in RunState)
"""Every state in which a run is listed."""
NEWEST = 50
"""Rows that a person is shown where no limit is given (assumed: a screen or two)."""


def check_choice(states: Sequence[str] = (), tags: Sequence[str] = ()) -> None:
    """Raise InvalidInput for a state or a tag that there cannot be."""
    for state in states:
        if state not in STATES:
            raise InvalidInput(f"--state {state[:40]!r} is not a state of a run: use {', '.join(STATES)}.")
    for tag in tags:
        if not is_label(tag, LONGEST):
            raise InvalidInput(f"--tag {tag[:70]!r} is not a tag: they have lower-case letters, digits and inner hyphens alone.")


def choose_rows(
    rows: Sequence[RunRow | DamagedRow],
    states: Sequence[str] = (),
    datasets: Sequence[str] = (),
    models: Sequence[str] = (),
    since: float | None = None,
    tags: Sequence[str] = (),
) -> list[RunRow | DamagedRow]:
    """Those of the rows of `list_runs` that have one of the states, one of the datasets, one of the models, and every one of the tags.

    None of a kind stands for all, and `check_choice` has seen states and tags. A dataset without a version stands for each of its
    versions; a sweep has every model and dataset of its bases. `since`: submitted at that time or later, in seconds since 1970.
    What a damaged run was is not known: it has only its state.
    """
    return [
        row
        for row in rows
        if (not states or row.state in states)
        and (not datasets or _is_among(row.dataset, datasets, versions=True))
        and (not models or _is_among(row.model, models))
        and set(tags) <= set(row.tags)
        and (since is None or (row.submitted is not None and row.submitted >= since))
    ]


def _is_among(value: str | None, wanted: Sequence[str], versions: bool = False) -> bool:
    names = set((value or "").split(", "))
    return not names.isdisjoint(wanted) or (versions and not {name.partition("@")[0] for name in names}.isdisjoint(wanted))


def parse_since(value: str, now: float | None = None) -> float:
    """Turn `7d`, `12h` or `2026-11-01` (with `T14:30` for a time of day, by this machine's clock) into seconds since 1970."""
    try:
        return (time.time() if now is None else now) - float(parse_duration(value))
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(value.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise InvalidInput(
            f"--since {value[:40]!r} is neither a length of time nor a date: write 7d, 12h, 2026-11-01 or 2026-11-01T14:30."
        ) from None


def parse_limit(value: str) -> int | None:
    """Turn `20` into a number, and `0` or `all` into None; raise InvalidInput."""
    text = value.strip()
    if text == "all":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise InvalidInput(f"--limit {value[:40]!r} is not a number of runs: write one such as 20, or 0 or all for all of them.")
    return int(text) or None
