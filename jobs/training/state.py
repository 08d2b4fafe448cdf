"""What a checkpoint holds of a run beside its variables: its step, sums, history and time."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jobs.artifacts.checkpoints import Snapshot
from service.records.run_record import Document


@dataclass
class Sums:
    """Sums over the examples of `steps` steps: the loss, then each metric, added in the order of the steps."""

    values: list[float]
    steps: int = 0

    def add(self, rows: NDArray[np.float64]) -> None:
        for row in rows:
            self.values = [total + float(value) for total, value in zip(self.values, row, strict=True)]
        self.steps += len(rows)

    def clear(self) -> None:
        self.values, self.steps = [0.0] * len(self.values), 0


@dataclass
class Spent:
    """Seconds over all attempts, beside those of the training steps; `building` is a part of the steps'."""

    input: float = 0.0
    """Waiting for examples."""
    building: float = 0.0
    """Calls that first had to build the compiled function, steps included."""
    building_steps: int = 0
    """The steps of those calls."""
    evaluation: float = 0.0
    checkpoint: float = 0.0
    """Copying the variables, and waiting for earlier checkpoints to be written."""


@dataclass
class LoopState:
    """The state of a run beside the variables of its model, optimizer and space."""

    since_row: Sums
    since_epoch: Sums
    step: int = 0
    history: list[Document] = field(default_factory=list)
    seconds: float = 0.0
    """Time spent in training steps, over all attempts."""
    ended: bool = False
    """Early stopping or a callback ended the run at this step."""
    spent: Spent = field(default_factory=Spent)

    @classmethod
    def fresh(cls, width: int) -> "LoopState":
        """Make the state before the first step; `width` is 1 + the number of metrics."""
        return cls(Sums([0.0] * width), Sums([0.0] * width))

    @classmethod
    def restored(cls, snapshot: Snapshot) -> "LoopState":
        """Make the state that a checkpoint holds."""
        position = snapshot.position
        return cls(
            Sums(list(position["row_sums"]), position["row_steps"]),
            Sums(list(position["epoch_sums"]), position["epoch_steps"]),
            snapshot.step,
            list(snapshot.history),
            position["seconds"],
            position["ended"],
            Spent(**position.get("spent", {})),
        )

    def position(self) -> Document:
        """Return the JSON values that `restored` takes."""
        return {
            "row_sums": self.since_row.values,
            "row_steps": self.since_row.steps,
            "epoch_sums": self.since_epoch.values,
            "epoch_steps": self.since_epoch.steps,
            "seconds": self.seconds,
            "ended": self.ended,
            "spent": dict(vars(self.spent)),
        }

    def timing(self) -> Document:
        """Return the seconds of each kind of work, for the progress document."""
        spent = self.spent
        return {
            "training_seconds": round(self.seconds, 3),
            "input_seconds": round(spent.input, 3),
            "building_seconds": round(spent.building, 3),
            "building_steps": spent.building_steps,
            "evaluation_seconds": round(spent.evaluation, 3),
            "checkpoint_seconds": round(spent.checkpoint, 3),
        }
