"""A run's report: one HTML page that stands by itself, without scripts and without any address to fetch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from jobs.reports import sections, words
from jobs.reports.breakdown import break_down, draw_breakdown
from jobs.reports.curves import Chart, Line, draw, rates
from jobs.reports.facts import RunFacts
from jobs.reports.headline import headline
from jobs.reports.memory import memory
from jobs.reports.repeat import repeat_command, spec_text, submitted_command
from jobs.reports.states import states
from jobs.reports.timeline import draw_timeline, event_rows
from service.records.remarks import remarks_among
from service.records.run_record import Document

MOST_BYTES = 3_000_000
"""What a page may weigh."""
MOST_OF_A_STACK = 4000
"""Characters of an error's stack (assumed: a screen or two)."""
_TEMPLATES = Path(__file__).parent / "templates"


def render(facts: RunFacts) -> str:
    """The whole page; what weighs most is left out, and said to be, until the page is light enough."""
    heaviest = ("activations", "states")
    for dropped in ((), heaviest, (*heaviest, "mistakes"), (*heaviest, "mistakes", "filters", "example")):
        pictures = {name: array for name, array in facts.pictures.items() if name.partition("-")[0] not in dropped}
        page = _render(RunFacts(**{**vars(facts), "pictures": pictures, "left_out": dropped}))
        if len(page.encode()) <= MOST_BYTES:
            break
    return page


def _render(facts: RunFacts) -> str:
    breakdown = break_down(facts)
    events, left_out = event_rows(facts)
    remembered = memory(facts, sections.why_missing(facts))
    return (
        environment()
        .get_template("run.html.j2")
        .render(
            facts=facts,
            headline=headline(facts),
            tiles=tiles(facts),
            learning=sections.learning(facts),
            memory=remembered,
            judgement={} if remembered else sections.judgement(facts),
            first_layer={} if remembered else sections.first_layer(facts),
            states=states(facts),
            layers=facts.model.get("layers") or [],
            breakdown=breakdown,
            breakdown_figure=draw_breakdown(breakdown) if breakdown else None,
            speed_figure=speed(facts),
            timeline=draw_timeline(facts),
            attempts=sections.attempts(facts),
            events=events,
            events_left_out=left_out,
            data=sections.data(facts),
            machines=sections.machines(facts),
            spec=spec_text(facts),
            repeat=repeat_command(facts),
            submitted=submitted_command(facts),
            submitted_at=facts.submission.submitted,
            folder=facts.submission.folder,
            error=failure(facts),
            remarks=remarks_among(facts.events),
            missing=sections.why_missing(facts),
        )
    )


def failure(facts: RunFacts) -> Document | None:
    """What the run failed by: `kind`, `message` and the end of the `traceback`."""
    error = facts.state.error
    if error is None:
        return None
    return {"kind": error.kind or "unknown", "message": error.message, "traceback": error.traceback[-MOST_OF_A_STACK:]}


def tiles(facts: RunFacts) -> list[tuple[str, str]]:
    """The figures that stand at the top: name and value."""
    shown = [
        ("test accuracy", "test_accuracy"),
        ("test loss", "test_loss"),
        ("validation accuracy", "val_accuracy"),
        ("training accuracy", "accuracy"),
    ]
    found = [(label, words.metric(name, facts.metrics[name])) for label, name in shown if name in facts.metrics]
    further = [name for name in facts.metrics if name.startswith("test_") and name not in ("test_accuracy", "test_loss")]
    found += [(name.replace("_", " "), words.metric(name, facts.metrics[name])) for name in further]
    if chance := facts.model.get("chance"):
        found.append(("chance", words.percent(chance)))
    if facts.model:
        found.append(("parameters", f"{facts.model['parameters']:,}"))
    if breakdown := break_down(facts):
        found.append(("examples a second", f"{breakdown.examples_per_second:,.0f}"))
    return found


def speed(facts: RunFacts) -> Markup | None:
    """Examples a second over the run; None before three rows."""
    found = run_rates(facts, facts.steps_per_epoch)
    if len(found) < 2:
        return None
    lowest, highest = min(y for _, y in found), max(y for _, y in found)
    description = f"Examples a second between the rows of metrics: from {lowest:,.0f} to {highest:,.0f}."
    line = Line("examples a second", found, 2)
    return draw(
        Chart("speed", "Examples a second over the run", description, [line], "epoch" if facts.steps_per_epoch else "step")
    )


def run_rates(facts: RunFacts, unit: int | None) -> list[tuple[float, float]]:
    """Examples a second of a run's rows."""
    return rates(facts.history, int(facts.spec["batch"]), unit, [attempt.started for attempt in facts.attempts])


def environment() -> jinja2.Environment:
    """The templates, with the words of numbers and times as filters; all text is escaped."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    filters: dict[str, Callable[..., Any]] = {
        name: getattr(words, name) for name in ("duration", "moment", "percent", "figure", "metric", "plural", "listed")
    }
    made.filters.update(filters)
    made.globals["style"] = Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8"))  # noqa: S704 - a file of the package
    return made
