"""What a network remembers of test sequences: the bits as pictures, and the accuracy at each step."""

from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from jobs.reports.curves import Chart, Line, draw, thinned
from jobs.reports.facts import RunFacts
from jobs.reports.pictures import png
from jobs.reports.words import percent
from service.specs.generated import is_bits_task

Bytes = NDArray[np.uint8]
_ONE, _WRONG = (58, 130, 200), (216, 90, 20)
"""Seen on light and on dark paper alike."""
_ZERO_OPACITY = 40
_NOT_COUNTED = 255
GIVEN = "The recurrence began as a chain, which delays by construction: this memory was given, not learnt."


def remembers(facts: RunFacts) -> bool:
    """Whether the run's task is to remember bits."""
    return is_bits_task(str(facts.spec.get("task", "")))


def memory(facts: RunFacts, why_missing: str) -> dict[str, Any] | None:
    """The section of the page; None for other tasks, and `missing` before the run has an end."""
    if not remembers(facts):
        return None
    found = facts.results.get("memory")
    if not found or "memory-targets" not in facts.pictures:
        return {"missing": why_missing}
    targets, outputs = facts.pictures["memory-targets"], facts.pictures["memory-outputs"]
    wrong = (targets != _NOT_COUNTED) & ((outputs >= 128) != (targets == 1))
    steps = len(found["by_step"])
    return {
        "summary": f"{found['right']:,} of the {found['bits']:,} bits of {found['sequences']:,} test sequences right, "
        f"{percent(found['right'] / max(1, found['bits']))}; guesses would give {percent(_chance(facts))}.",
        "given": given(facts),
        "by_step": _curve(found["by_step"], _chance(facts)),
        "sequences": len(targets),
        "first": targets.shape[1],
        "steps": steps,
        "wrong": int(wrong.sum()),
        "targets": png(_ones(targets)),
        "outputs": png(_chances(outputs, targets)),
        "errors": png(_errors(wrong, targets)),
    }


def given(facts: RunFacts) -> str:
    """A sentence on a run that could remember before it learnt; empty where its first weights were no chain, or another's, or unused."""
    spec = facts.spec
    space: Any = spec.get("space") or "weight"
    used = spec.get("init_from") is None and (space == "weight" or space.get("initial") == "weights")
    chained = remembers(facts) and (spec.get("model_params") or {}).get("start") == "chain"
    return GIVEN if chained and used else ""


def _chance(facts: RunFacts) -> float:
    return float(facts.model.get("chance") or 0.5)


def _curve(by_step: list[float | None], chance: float) -> Markup:
    points = [(float(step), accuracy) for step, accuracy in enumerate(by_step, 1) if accuracy is not None]
    ends = [points[0][0], points[-1][0]]
    lines = [Line("accuracy", thinned(points), 0), Line("chance", [(x, chance) for x in ends], 7, style=1)]
    lowest = min(points, key=lambda point: point[1])
    description = (
        f"Accuracy at each step from {ends[0]:.0f} to {ends[1]:.0f}: lowest at step {lowest[0]:.0f}, {percent(lowest[1])}."
    )
    return draw(Chart("by-step", "Accuracy at each step", description, lines, "step of the sequence", share=True))


def _painted(colour: tuple[int, int, int], opacity: NDArray[Any]) -> Bytes:
    picture = np.empty((*opacity.shape, 4), np.uint8)
    picture[..., :3] = colour
    picture[..., 3] = opacity
    return picture


def _ones(targets: Bytes) -> Bytes:
    """Ones full, zeros pale, what does not count empty."""
    opacity = np.where(targets == 1, 255, _ZERO_OPACITY)
    return _painted(_ONE, np.where(targets == _NOT_COUNTED, 0, opacity))


def _chances(outputs: Bytes, targets: Bytes) -> Bytes:
    """The surer of a one the fuller."""
    opacity = _ZERO_OPACITY + outputs.astype(np.float32) * (255 - _ZERO_OPACITY) / 255
    return _painted(_ONE, np.where(targets == _NOT_COUNTED, 0, opacity))


def _errors(wrong: NDArray[np.bool_], targets: Bytes) -> Bytes:
    opacity = np.where(wrong, 255, _ZERO_OPACITY // 2)
    return _painted(_WRONG, np.where(targets == _NOT_COUNTED, 0, opacity))
