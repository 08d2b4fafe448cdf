"""What a run's worker asks whoever started it in its own process; nothing of it travels to another process."""

from collections.abc import Callable
from dataclasses import dataclass

from service.records.run_record import Document


def say(line: str) -> None:
    """A line of the process's output, which is the worker's log."""
    print(line, flush=True)


@dataclass(frozen=True)
class Hooks:
    """Called by rank 0. Workers that Ray starts have NO_HOOKS."""

    should_continue: Callable[[Document], bool] = lambda row: True
    """Called with each row of metrics once what is due at its step is saved; it may take its time, and says whether to train on."""
    tell: Callable[[str], None] = say
    """Writes a line of the run's log."""


NO_HOOKS = Hooks()
"""Never ends a training early, and prints."""
