"""How an attempt, a run or a sweep ended."""

from dataclasses import dataclass

from service.errors import Cancelled, DelaylineError, InfrastructureFailure
from service.records.schemas import Failure, RunState


@dataclass(frozen=True)
class Outcome:
    """Made by `succeeded()`, `cancelled()`, `displaced()` or `failed(error)`; `state` is the word for it in a run's documents."""

    state: RunState
    error: Failure | None = None
    """Of a failure alone."""
    passing: bool = False
    """Whether what the store refused may be otherwise at the next attempt."""

    why: str | None = None
    """Of what was displaced alone."""

    @classmethod
    def succeeded(cls) -> "Outcome":
        """All was done."""
        return cls(RunState.SUCCEEDED)

    @classmethod
    def cancelled(cls) -> "Outcome":
        """A person, the system or a limit stopped it."""
        return cls(RunState.CANCELLED)

    @classmethod
    def displaced(cls, why: str) -> "Outcome":
        """It is no failure and the run goes on at once, elsewhere or with more workers; `why` as the attempt's reason says it."""
        return cls(RunState.RETRYING, why=why)

    @classmethod
    def failed(cls, error: DelaylineError | Failure, passing: bool = False) -> "Outcome":
        """`error`: what this process met, or what a worker left of its own in the store."""
        return cls(RunState.FAILED, error if isinstance(error, Failure) else Failure.of(error), passing)

    @property
    def exit_code(self) -> int:
        """Of the driver that ends by it."""
        if self.error is not None:
            return InfrastructureFailure.exit_code if self.error.exit_code is None else self.error.exit_code
        return Cancelled.exit_code if self.state == RunState.CANCELLED else 0

    @property
    def retryable(self) -> bool:
        """Whether another attempt may end otherwise."""
        if self.error is None:
            return self.state == RunState.RETRYING
        return self.error.kind == InfrastructureFailure.kind or self.passing
