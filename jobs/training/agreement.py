"""Checks that all workers hold the same model: a user's layer that changes a variable by its own examples differs between them."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from jobs.training.replica import Replica
from jobs.training.variables import seed_states
from service.errors import UserFailure

TOLERANCE = 1e-4
"""Of a variable's largest value: processors of two kinds may round differently (assumed: far above rounding, far below two shares' means)."""


@dataclass
class Agreement:
    """Compares the variables of worker `rank` with those of all `workers`; all of them call it at the same steps."""

    replica: Replica
    rank: int
    workers: int
    solved: bool = False
    """Whether the weights are solved from targets: they are no layer's own doing."""
    _all_looked_at: bool = False

    def check(self, step: int) -> None:
        """Raise UserFailure, on all workers alike, where a layer's variable differs between them.

        The first time it looks at all variables, then at those that do not train. Random generators differ on purpose.
        """
        if self.workers == 1:
            return
        variables = self._variables()
        self._all_looked_at = True
        checksums = [zlib.crc32(np.ascontiguousarray(_value(variable)).tobytes()) for variable in variables]
        suspects = [v for v, alike in zip(variables, self.replica.alike(checksums), strict=True) if not alike]
        apart = [(variable, distance) for variable in suspects if not (distance := self._distance(variable)) <= TOLERANCE]
        if apart:
            raise UserFailure(_sentence(self.replica.model, *apart[0], step, self.workers))

    def _variables(self) -> list[Any]:
        model = self.replica.realised_model()
        alone = self._all_looked_at or self.solved
        generators = {id(state) for state in seed_states(model)}
        return [v for v in (model.non_trainable_variables if alone else model.variables) if id(v) not in generators]

    def _distance(self, variable: Any) -> float:
        """The largest of all workers' distances from the mean, as a share of its largest value."""
        own = _value(variable).astype(np.float64).reshape(-1)
        mean = self.replica.sum_over_workers(own) / self.workers
        distances = np.zeros(self.workers)
        distances[self.rank] = np.abs(own - mean).max() / max(np.abs(mean).max(), np.finfo(np.float64).tiny)
        return float(self.replica.sum_over_workers(distances).max())


def _value(variable: Any) -> Any:
    return keras.ops.convert_to_numpy(variable)


def _sentence(model: keras.Model, variable: Any, distance: float, step: int, workers: int) -> str:
    owner = _owner(model._flatten_layers(), variable)
    return (
        f"The layer {owner!r} holds another {variable.name!r} on each of the {workers} workers (at step {step} they differ by "
        f"{distance:.2g} of its largest value), because each changes it by its own examples: make it by "
        f'add_weight(…, trainable=False, aggregation="mean"), which averages over the workers at each assign, or use workers=1.'
    )


def _owner(layers: Sequence[Any], variable: Any) -> str:
    for layer in layers:
        if any(own is variable for own in (*layer._trainable_variables, *layer._non_trainable_variables)):
            return str(layer.name)
    return str(variable.path.rsplit("/", 2)[0])
