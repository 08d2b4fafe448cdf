"""Numbers and times as people read them."""

import time
from collections.abc import Iterable
from typing import Any


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s` or `1 h 02 min`."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min"


def moment(seconds: float | None) -> str:
    """A time since 1970 in UTC, for readers anywhere; a dash for none."""
    return "–" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def percent(share: float) -> str:
    """`97.5%`; two digits behind the point from 90% on; what is not all is never rounded up to it."""
    shown = f"{100 * share:.1f}%" if share < 0.9 or share == 1 else f"{min(100 * share, 99.99):.2f}%"
    return "100%" if share == 1 else shown


def figure(value: Any) -> str:
    """A metric: four digits behind the point for small ones; whole numbers with thousands."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}"


def metric(name: str, value: Any) -> str:
    """An accuracy as a share, all else as a figure."""
    return percent(float(value)) if name.endswith("accuracy") and isinstance(value, int | float) else figure(value)


def short(text: str, most: int) -> str:
    """The text, cut off with an ellipsis behind `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def listed(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = list(words)
    return f"{', '.join(most)} and {last}" if most else last


def plural(count: int, word: str) -> str:
    """`1 worker`, `2 workers`."""
    ending = "es" if word.endswith(("ss", "x")) else "s"
    return f"{count:,} {word}{'' if count == 1 else ending}"
