"""Events that say what of a user's model is not used here, or would spoil its training: told apart from what merely happened."""

from collections.abc import Iterable

from service.storage.json_documents import Document

REMARK = "remark"
"""The name of these events."""


def remarks_among(events: Iterable[Document]) -> list[str]:
    """Their sentences, each once: every attempt that begins with the first step says them."""
    return list(dict.fromkeys(str(row.get("message")) for row in events if row.get("event") == REMARK))
