"""Requests to stop a run: each has an id, and stands until it is handled or withdrawn.

Drivers never delete a request, for one that comes while a run goes from one driver to the next would be lost. The driver that a
request ends, or that ends anyhow while it stands, notes the id in the state that the run ends in. Whoever resumes an ended run
withdraws the request that ended it, as it was when they looked.
"""

import secrets
import time
from collections.abc import Callable

from service.records.stored_document import StoredDocument, fitted
from service.storage.json_documents import Document
from service.storage.shared_document import SharedDocument

PERSON = "person"
"""Who asks a run to stop, if nobody else is named."""
SWEEP = "sweep"
"""Who asks a trial to stop: its sweep, which may resume it later."""
TIME_LIMIT = "time limit"
"""Who asks when a run has had its time: its own driver."""
NODE = "node"
"""Who asks the workers alone to stop, when the node of one is taken away or there is room for more: the run's driver, which goes on."""
HANDLED = "handled_cancel"
"""The key of a run's state with the id of the newest request that was handled."""


class CancelRequest(StoredDocument):
    """`cancel.json`: the newest request to stop a run. Times are seconds since 1970."""

    id: str = ""
    time: float | None = None
    reason: str = PERSON
    withdrawn: float | None = None


class CancelRequests:
    """The requests to stop one run, at `key`. `handled` reads the id of the newest one that was handled from the run's state."""

    def __init__(
        self, key: str, document: Callable[[], SharedDocument], read: Callable[[], Document], handled: Callable[[], str | None]
    ) -> None:
        self._key = key
        self._document = document
        self._read = read
        self._read_handled = handled
        self._handled: str | None = None

    def standing(self) -> CancelRequest | None:
        """The request that stands, None where there is none."""
        return self._checked(self._read())

    def make(self, reason: str = PERSON) -> None:
        """Ask the run to stop. A person's request that stands remains; one of the same reason is not made twice."""

        def change(found: Document) -> Document | None:
            standing = self._checked(found)
            if standing and standing.reason in (PERSON, reason):
                return None
            return CancelRequest(id=secrets.token_hex(8), time=time.time(), reason=reason).document()

        self._document().update(change)

    def withdraw(self, *reasons: str, request: str | None = None) -> None:
        """Take back the request that stands, if it was made for one of these reasons, or is the `request` of that id."""

        def change(found: Document) -> Document | None:
            standing = self._checked(found)
            if not standing or (standing.reason not in reasons and standing.id != request):
                return None
            return {**found, "withdrawn": time.time()}

        self._document().update(change)

    def _checked(self, found: Document) -> CancelRequest | None:
        """The document as a request, None unless it stands."""
        if not found:
            return None
        request = fitted(CancelRequest, found, self._key)
        if request.withdrawn:
            return None
        # Requests of the first format have no id.
        identity = request.id or str(request.time)
        if identity != self._handled and identity == self._read_handled():
            self._handled = identity
        return None if identity == self._handled else request.changed(id=identity)
