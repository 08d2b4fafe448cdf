"""Where a run's time went: input, compute, all-reduce, checkpoints and the rest; and how fast it trained."""

from dataclasses import dataclass

from markupsafe import Markup

from jobs.reports.facts import RunFacts
from jobs.reports.svg import INK, MUTED, SERIES, drawing, to_svg
from jobs.reports.words import duration, percent


@dataclass(frozen=True)
class Part:
    """A share of the run's time, in seconds."""

    name: str
    seconds: float
    colour: int
    meaning: str


@dataclass(frozen=True)
class Breakdown:
    """`total`: the seconds of all attempts; `parts` add up to it. Rates are None where nothing was measured."""

    parts: list[Part]
    total: float
    steps_seconds: float
    examples_per_second: float | None
    step_milliseconds: float | None
    all_reduce_milliseconds: float | None


def break_down(facts: RunFacts) -> Breakdown | None:
    """From the times that rank 0 measured; None before it wrote any."""
    timing = facts.progress.get("timing") or {}
    steps = facts.step
    if not timing.get("training_seconds") or not steps:
        return None
    training = float(timing["training_seconds"])
    building = min(training, float(timing.get("building_seconds", 0.0)))
    each = facts.results.get("all_reduce_seconds")
    stepping = training - building
    reduced = min(stepping, float(each) * steps) if each is not None else 0.0
    waits = {name: float(timing.get(f"{name}_seconds", 0.0)) for name in ("input", "checkpoint", "evaluation")}
    total = max(_wall(facts), training + sum(waits.values()))
    rest = total - training - sum(waits.values())
    apart = each is None and facts.workers > 1
    parts = [
        Part(
            "compute",
            stepping - reduced,
            0,
            "training steps, all-reduce included: it is measured at a run's end" if apart else "training steps",
        ),
        Part("all-reduce", reduced, 1, "summing gradients over the workers"),
        Part("input", waits["input"], 2, "waiting for examples"),
        Part("checkpoint", waits["checkpoint"], 3, "copying the variables; writing goes on beside the steps"),
        Part("evaluation", waits["evaluation"], 4, "the validation split, while training"),
        Part("building", building, 5, "compiling the training step, and the steps of those calls"),
        Part("the rest", rest, 7, "start-up, testing, saving the model, work that was lost and done again"),
    ]
    speed = steps * int(facts.spec["batch"]) / training
    milliseconds = None if each is None or facts.workers < 2 else 1000 * float(each)
    if apart:
        parts = [part for part in parts if part.name != "all-reduce"]
    return Breakdown(parts, total, training, speed, 1000 * training / steps, milliseconds)


def _wall(facts: RunFacts) -> float:
    """The seconds of all attempts."""
    now = float(facts.progress.get("time") or facts.made)
    return sum(max(0.0, float(attempt.get("finished") or now) - float(attempt["started"])) for attempt in facts.attempts)


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
