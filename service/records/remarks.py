"""Events that say what of a user's model is not used here, or would spoil its training: told apart from what merely happened."""

from collections.abc import Iterable

from service.records.schemas import Event

REMARK = "remark"
"""The name of these events."""


def remarks_among(events: Iterable[Event]) -> list[str]:
    """Their sentences, each once: every attempt that begins with the first step says them."""
    return list(dict.fromkeys(row.message for row in events if row.event == REMARK))
