"""Where a run's time went: input, compute, all-reduce, checkpoints and the rest; and how fast it trained."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from jobs.reports.facts import RunFacts
from jobs.reports.svg import INK, MUTED, SERIES, drawing, to_svg
from jobs.reports.timeline import stretches
from jobs.reports.words import duration, percent
from service.records.run_record import Document


@dataclass(frozen=True)
class Part:
    """A share of the run's time, in seconds."""

    name: str
    seconds: float
    colour: int
    meaning: str


@dataclass(frozen=True)
class Breakdown:
    """`parts` add up to `total`. The rates are of the steps alone, without the calls that built the function."""

    parts: list[Part]
    total: float
    examples_per_second: float
    step_milliseconds: float
    all_reduce_milliseconds: float | None


def break_down(facts: RunFacts) -> Breakdown | None:
    """From the times that rank 0 measured; None before it wrote any."""
    timing = dict[str, Any](facts.progress.timing or {})
    steps = facts.step
    if not timing.get("training_seconds") or not steps:
        return None
    training = float(timing["training_seconds"])
    building = min(training, float(timing.get("building_seconds", 0.0)))
    counted = steps - int(timing.get("building_steps", 0))
    if counted <= 0:
        # All was done in the calls that built the function: there is nothing else to divide.
        building, counted = 0.0, steps
    each = facts.results.get("all_reduce_seconds")
    stepping = training - building
    reduced = min(stepping, float(each) * counted) if each is not None else 0.0
    parts = _parts(facts, timing, stepping - reduced, reduced, building)
    if each is None and facts.workers > 1:
        parts = [part for part in parts if part.name != "all-reduce"]
        parts[0] = Part("compute", stepping, 0, "training steps; the all-reduce in them is measured at a run's end")
    milliseconds = None if each is None or facts.workers < 2 else 1000 * float(each)
    speed = counted * int(facts.spec["batch"]) / stepping
    return Breakdown(parts, sum(part.seconds for part in parts), speed, 1000 * stepping / counted, milliseconds)


def _parts(facts: RunFacts, timing: Document, compute: float, reduced: float, building: float) -> list[Part]:
    waits = {name: float(timing.get(f"{name}_seconds", 0.0)) for name in ("input", "checkpoint", "evaluation")}
    starting = sum(max(0.0, (row.end if row.trained is None else row.trained) - row.begin) for row in stretches(facts))
    rest = _wall(facts) - compute - reduced - building - sum(waits.values()) - starting
    return [
        Part("compute", compute, 0, "training steps"),
        Part("all-reduce", reduced, 1, "summing the gradients over the workers"),
        Part("input", waits["input"], 2, "waiting for examples"),
        Part("checkpoint", waits["checkpoint"], 3, "copying the variables; they are written beside the steps"),
        Part("evaluation", waits["evaluation"], 4, "the validation split, while training"),
        Part("building", building, 5, "compiling the training step, with the steps of those calls"),
        Part("start-up", starting, 6, "from an attempt's start to its first step: Ray, TensorFlow, data"),
        Part("the rest", max(0.0, rest), 7, "testing, saving the model, work that was lost and done again"),
    ]


def _wall(facts: RunFacts) -> float:
    """The seconds of all attempts."""
    now = facts.progress.time or facts.made
    return sum(max(0.0, (attempt.finished or now) - attempt.started) for attempt in facts.attempts)


def draw_breakdown(breakdown: Breakdown) -> Markup:
    """A bar for each part."""
    parts, most = breakdown.parts, max(part.seconds for part in breakdown.parts) or 1.0
    described = ", ".join(f"{part.name} {duration(part.seconds)}" for part in parts)
    with drawing(24.0 + 25.0 * len(parts)) as (figure, axes):
        for place, part in enumerate(parts):
            axes.barh(place, part.seconds, height=0.62, color=SERIES[part.colour], linewidth=0)
            share = percent(part.seconds / breakdown.total) if breakdown.total else ""
            axes.text(
                part.seconds + most * 0.015, place, f"{duration(part.seconds)}  {share}", va="center", color=MUTED, fontsize=10.5
            )
        axes.set_yticks(range(len(parts)), [part.name for part in parts])
        for label in axes.get_yticklabels():
            label.set_color(INK)
        axes.tick_params(length=0)
        axes.set_xticks([])
        axes.set_xlim(0, most * 1.42)
        axes.set_ylim(len(parts) - 0.5, -0.5)
        axes.spines["bottom"].set_visible(False)
        return to_svg(figure, "breakdown", f"Where {duration(breakdown.total)} went: {described}.")
