"""A sweep's report: one HTML page like that of a run."""

import shlex
from dataclasses import replace
from typing import Any

from jobs.reports.page import MOST_BYTES, environment, failure
from jobs.reports.sections import attempts
from jobs.reports.sweep import sections
from jobs.reports.sweep.axes import Dimension, dimensions
from jobs.reports.sweep.charts import charted, charts
from jobs.reports.sweep.curves import draw_curves
from jobs.reports.sweep.facts import MOST_CURVES, MOST_ROWS, SweepFacts
from jobs.reports.sweep.parallel import MOST_AXES, draw_parallel
from jobs.reports.sweep.recipe_files import best_recipe, sweep_recipe
from jobs.reports.timeline import event_rows
from service.records.remarks import remarks_among

MOST_CHARTS = 6
"""Of the metric against one parameter each, those that matter most."""
MOST_SPEC = 20_000
"""Characters of the sweep's own spec: a grid may list ten thousand values."""


def render_sweep(facts: SweepFacts) -> str:
    """The whole page; rows of its table are left out, and said to be, until it is light enough."""
    varied = dimensions(facts.sweep, facts.trials)
    page = ""
    for rows in (MOST_ROWS, MOST_ROWS // 4, 0):
        page = _render(replace(facts, rows=rows), varied)
        if len(page.encode()) <= MOST_BYTES:
            break
    return page


def _render(facts: SweepFacts, varied: list[Dimension]) -> str:
    weighed = sections.importance_section(facts, varied)
    drawn = by_importance(weighed, varied)
    events, left_out = event_rows(facts.run)
    spec, whole = spec_text(facts)
    return (
        environment()
        .get_template("sweep.html.j2")
        .render(
            facts=facts,
            headline=sections.headline(facts, varied),
            tiles=sections.tiles(facts),
            error=failure(facts.run),
            remarks=remarks_among(facts.best_run.events) if facts.best_run else [],
            charts=charts(facts, drawn, MOST_CHARTS),
            charts_left_out=max(0, len(charted(varied)) - MOST_CHARTS),
            points=sections.point_table(facts, varied),
            parallel=draw_parallel(facts, drawn),
            axes_left_out=max(0, len(varied) - MOST_AXES),
            curves=draw_curves(facts),
            most_curves=MOST_CURVES,
            importance=weighed,
            table=sections.trial_table(facts, varied),
            failures=sections.failures(facts),
            recipe=best_recipe(facts.best_run) if facts.best_run else None,
            schedule=sections.schedule(facts),
            attempts=attempts(facts.run),
            events=events,
            events_left_out=left_out,
            spec=spec,
            spec_whole=whole,
            submitted=shlex.join(facts.run.submission.command or ()),
        )
    )


def by_importance(weighed: dict[str, Any], varied: list[Dimension]) -> list[Dimension]:
    """What varied, of more than a page draws the most important first; else in the sweep's order."""
    if len(varied) <= min(MOST_CHARTS, MOST_AXES):
        return varied
    order = [row["name"] for row in weighed.get("rows", [])]
    return sorted(varied, key=lambda each: order.index(each.label) if each.label in order else len(order))


def spec_text(facts: SweepFacts) -> tuple[str, bool]:
    """The sweep's spec as a YAML file, and whether it is whole."""
    text = sweep_recipe(facts.sweep)
    return (text, True) if len(text) <= MOST_SPEC else (f"{text[:MOST_SPEC]}\n…", False)
