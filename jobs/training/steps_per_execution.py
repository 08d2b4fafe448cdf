"""How many steps one call of the compiled function does, and how fast the run is."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

SECONDS_A_CALL = 0.5
"""A request to stop is seen between calls, so this is about how long it waits (assumed)."""
MOST_STEPS_A_CALL = 256
MOST_BYTES_A_CALL = 8 * 1024**2
"""Up to four copies of a chunk of inputs are in memory at a time: this bounds them (assumed)."""
RATE_WINDOW = 12
"""Calls over which the rate is averaged (assumed: a few seconds)."""


@dataclass
class StepsPerExecution:
    """Rank 0 proposes a number, all workers accept what came back with the sums of the call before, so all do the same."""

    bytes_per_step: int
    proposes: bool
    single_steps: bool = False
    """A callback wants to see each batch."""
    clock: Callable[[], float] = time.monotonic
    steps_a_call: int = 1
    proposal: int = 1
    _marks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RATE_WINDOW))

    @property
    def most(self) -> int:
        """The most steps that the next call may do."""
        if self.single_steps:
            return 1
        return max(1, min(self.steps_a_call, MOST_BYTES_A_CALL // max(1, self.bytes_per_step)))

    @property
    def proposed(self) -> float:
        """What this worker adds to the sum of proposals: only rank 0 makes one."""
        return float(self.proposal) if self.proposes else 0.0

    def accept(self, summed: float) -> None:
        """Take the proposal that came back from the sum over the workers."""
        self.steps_a_call = max(1, int(summed))

    def measured(self, seconds: float, steps: int) -> None:
        """Learn from a call; the first one compiles, so growth is gradual."""
        wanted = SECONDS_A_CALL / max(seconds / steps, 1e-6)
        self.proposal = int(min(MOST_STEPS_A_CALL, max(1.0, wanted), self.steps_a_call * 8))

    def mark(self, step: int) -> None:
        """Note that `step` is done now."""
        self._marks.append((self.clock(), step))

    def pause(self) -> None:
        """Forget the rate so far: what follows until the next call is no training."""
        self._marks.clear()

    @property
    def steps_per_second(self) -> float:
        """Over the last few calls; 0 before there are two."""
        if len(self._marks) < 2:
            return 0.0
        (begin, first), (end, last) = self._marks[0], self._marks[-1]
        return (last - first) / (end - begin) if end > begin else 0.0
