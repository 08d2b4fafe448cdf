"""A run's attempts, and what happened in them, on a time line."""

import itertools
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from jobs.reports.facts import RunFacts
from jobs.reports.svg import BAD, GOOD, INK, LINE, MUTED, PAPER, SERIES, WARN, drawing, to_svg
from jobs.reports.words import duration, plural, short
from service.records.run_record import Document
from service.records.schemas import Attempt, Event, RunState
from service.words import clock

MOST_ATTEMPTS = 12
"""Drawn, the newest ones (assumed: a screen of them)."""
MOST_TICKS = 60
"""Checkpoints that are closer to each other than this part of the line are drawn as one."""
MOST_EVENTS = 40
LONG_PAUSE = 0.3
"""A pause of more than this share of all attempts' time is drawn short, with its length beside it."""
_DRAWN_PAUSE = 0.08


@dataclass(frozen=True)
class Stretch:
    """One attempt: seconds since the run's start; `trained`: when its first step began."""

    number: int
    begin: float
    end: float
    trained: float | None
    outcome: RunState
    label: str
    checkpoints: list[float]


@dataclass(frozen=True)
class Scale:
    """From seconds to places, with long pauses drawn short; `pauses`: (place, seconds) of those."""

    real: list[float]
    drawn: list[float]
    pauses: list[tuple[float, float]]

    def __call__(self, seconds: float) -> float:
        return float(np.interp(seconds, self.real, self.drawn))


def outcome_of(attempt: Attempt, facts: RunFacts) -> RunState:
    """`succeeded`, `cancelled`, `failed` or, while it is under way, `running`."""
    reason = attempt.reason
    if attempt.finished is None:
        return RunState.LOST if facts.standing == RunState.LOST else RunState.RUNNING
    return RunState(reason) if reason in (RunState.SUCCEEDED, RunState.CANCELLED) else RunState.FAILED


def stretches(facts: RunFacts) -> list[Stretch]:
    """The newest attempts as far as they got."""
    attempts = facts.attempts
    if not attempts:
        return []
    start = attempts[0].started
    found = []
    for attempt in attempts[-MOST_ATTEMPTS:]:
        own = [row for row in facts.events if row.attempt == attempt.number]
        begin = attempt.started
        end = float(attempt.finished or max([facts.progress.time or begin, *(row.time for row in own)]))
        trained = next((row.time - start for row in own if row.event == "training"), None)
        outcome = outcome_of(attempt, facts)
        workers = plural(len(attempt.workers), "worker") if attempt.workers else "no workers"
        label = f"attempt {attempt.number}: {workers}, {duration(end - begin)}, {outcome}"
        saved = [row.time - start for row in own if row.event == "checkpoint"]
        found.append(Stretch(attempt.number, begin - start, max(end, begin) - start, trained, outcome, label, saved))
    return found


def scale_of(rows: list[Stretch]) -> Scale:
    """Attempts at their lengths, pauses between them too unless they are long."""
    active = sum(row.end - row.begin for row in rows) or 1.0
    real, drawn, pauses = [rows[0].begin], [rows[0].begin], []
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        real.append(max(row.end, real[-1] + 1e-3))
        drawn.append(drawn[-1] + real[-1] - real[-2])
        if following is None:
            continue
        pause = following.begin - row.end
        shown = _DRAWN_PAUSE * active if pause > LONG_PAUSE * active else max(pause, 1e-3)
        if pause > LONG_PAUSE * active:
            pauses.append((drawn[-1] + shown / 2, pause))
        real.append(max(following.begin, real[-1] + 1e-3))
        drawn.append(drawn[-1] + shown)
    return Scale(real, drawn, pauses)


def draw_timeline(facts: RunFacts) -> Markup | None:
    """A bar for each attempt: pale while it starts up, full while it trains; ticks are checkpoints. None before the first."""
    rows = stretches(facts)
    if not rows:
        return None
    scale = scale_of(rows)
    with drawing(66 + 42.0 * len(rows)) as (figure, axes):
        for place, row in enumerate(rows):
            _draw_row(axes, scale, row, place)
        axes.set_ylim(len(rows) - 0.55, -0.8)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlim(scale.drawn[0], max(scale.drawn[-1], scale.drawn[0] + 1e-3))
        _label_times(axes, scale, rows)
        axes.set_xlabel("time since the start")
        return to_svg(figure, "timeline", f"Time line: {'; '.join(row.label for row in rows)}.")


def _draw_row(axes: Axes, scale: Scale, row: Stretch, place: int) -> None:
    colour = {RunState.SUCCEEDED: GOOD, RunState.FAILED: BAD, RunState.CANCELLED: WARN, RunState.LOST: BAD}.get(
        row.outcome, SERIES[0]
    )
    begin, end = scale(row.begin), scale(row.end)
    trained = end if row.trained is None else scale(row.trained)
    axes.barh(place, trained - begin, left=begin, height=0.34, color=colour, alpha=0.35, linewidth=0)
    axes.barh(place, end - trained, left=trained, height=0.34, color=colour, linewidth=0)
    drawn = begin
    for moment in row.checkpoints:
        if scale(moment) - drawn < (scale.drawn[-1] - scale.drawn[0]) / MOST_TICKS:
            continue
        drawn = scale(moment)
        axes.plot([drawn] * 2, [place - 0.17, place + 0.17], color=PAPER, linewidth=1.1, solid_capstyle="butt")
    axes.text(scale.drawn[0], place - 0.3, short(row.label, 56), ha="left", va="bottom", color=INK, fontsize=10.5)


def _label_times(axes: Axes, scale: Scale, rows: list[Stretch]) -> None:
    if not scale.pauses:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        offset = scale.real[0] - scale.drawn[0]
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: clock(value + offset)))
        return
    room = (scale.drawn[-1] - scale.drawn[0]) * 0.13
    chosen: list[float] = []
    for moment in [*(row.begin for row in rows), rows[-1].end]:
        if not chosen or scale(moment) - scale(chosen[-1]) > room:
            chosen.append(moment)
    axes.set_xticks([scale(moment) for moment in chosen], [clock(moment) for moment in chosen])
    for place, seconds in scale.pauses:
        axes.axvline(place, color=LINE, linewidth=1.2, linestyle=(0, (2, 3)))
        words = f"pause of {duration(seconds)}"
        axes.text(place, 1.0, words, transform=axes.get_xaxis_transform(), color=MUTED, fontsize=9.5, ha="center", va="bottom")


def event_rows(facts: RunFacts) -> tuple[list[Document], int]:
    """The events for a table, checkpoints in a row as one; `time` since the start; and how many were left out."""
    events = facts.events
    start = facts.attempts[0].started if facts.attempts else (events[0].time if events else 0.0)
    rows = []
    for saved, group in itertools.groupby(events, key=lambda row: row.event == "checkpoint"):
        found = list(group)
        rows += [_together(found)] if saved and len(found) > 2 else found
    left_out = max(0, len(rows) - MOST_EVENTS)
    if left_out:
        rows = [*rows[: MOST_EVENTS // 2], *rows[-MOST_EVENTS // 2 :]]
    shown = [{"time": clock(row.time - start), "message": row.message or row.event} for row in rows]
    return shown, left_out


def _together(rows: list[Event]) -> Event:
    first, last = (getattr(row, "step", "?") for row in (rows[0], rows[-1]))
    message = f"{len(rows)} checkpoints saved, from step {first} to step {last}"
    return Event(time=rows[-1].time, event=rows[-1].event, message=message)
