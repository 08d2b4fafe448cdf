"""Tags: labels by which people find runs again. They change nothing of what is trained."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from service.names import is_label
from service.specs.quantities import parse_patterns

LONGEST, MOST = 64, 16


def _check(tags: tuple[str, ...]) -> tuple[str, ...]:
    for tag in tags:
        if not is_label(tag, LONGEST):
            shown = repr(tag) if len(tag) <= 70 else f"{tag[:40]!r}… ({len(tag)} characters)"
            raise ValueError(
                f"a tag is {shown}: use 1 to {LONGEST} lower-case letters, digits and inner hyphens, such as tags=[thesis, lr-study]"
            )
    if len(set(tags)) < len(tags):
        raise ValueError("a tag appears twice: name each once")
    if len(tags) > MOST:
        raise ValueError(f"there are {len(tags)} tags, but {MOST} at most are kept: leave some out")
    return tags


Tags = Annotated[
    tuple[Annotated[str, Field(max_length=10_000)], ...],
    Field(max_length=10_000),
    BeforeValidator(parse_patterns),
    AfterValidator(_check),
]
"""One tag or a list of them."""


def without_tags(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec's document with all that makes it this spec and no other; a sweep's bases have none either."""
    bases = {"base": [{**base, "values": without_tags(base["values"])} for base in spec["base"]]} if "base" in spec else {}
    return {key: value for key, value in (spec | bases).items() if key != "tags"}


def kept_tags(run_id: str, stored: Sequence[str], wanted: Sequence[str]) -> str | None:
    """What is said of tags that a resubmission gives and the run does not have; None where there is nothing to say."""
    if not wanted or sorted(stored) == sorted(wanted):
        return None
    there = f"the tags that it was first submitted with, {', '.join(stored)}" if stored else "no tags, as it was first submitted"
    return f"{run_id} keeps {there}; not changed to: {', '.join(wanted)}."
