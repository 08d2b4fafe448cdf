"""How an attempt, a run or a sweep ended."""

from dataclasses import dataclass

from service.errors import Cancelled, InfrastructureFailure
from service.records.run_record import Document


@dataclass(frozen=True)
class Outcome:
    """Made by `succeeded()`, `cancelled()` or `failed(error)`; `state` is the word for it in a run's documents."""

    state: str
    error: Document | None = None
    """Of a failure alone."""
    passing: bool = False
    """Whether what the store refused may be otherwise at the next attempt."""

    @classmethod
    def succeeded(cls) -> "Outcome":
        """All was done."""
        return cls("succeeded")

    @classmethod
    def cancelled(cls) -> "Outcome":
        """A person, the system or a limit stopped it."""
        return cls("cancelled")

    @classmethod
    def failed(cls, error: Document, passing: bool = False) -> "Outcome":
        """`error`: the document of a DelaylineError, or what a worker left of one in the store."""
        return cls("failed", error, passing)

    @property
    def exit_code(self) -> int:
        """Of the driver that ends by it."""
        if self.error is not None:
            return int(self.error["exit_code"])
        return Cancelled.exit_code if self.state == "cancelled" else 0

    @property
    def retryable(self) -> bool:
        """Whether another attempt may end otherwise."""
        return self.error is not None and (self.error["kind"] == InfrastructureFailure.kind or self.passing)
