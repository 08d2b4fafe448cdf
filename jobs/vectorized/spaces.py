"""What the optimizer changes for all members at once: their weights, or targets from which their weights are solved.

The counterpart of jobs.target_space.space. A space's values are one row for each member, the flattened variables one after another.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from jobs.target_space.layers import TargetLayer, TargetSimpleRNN
from jobs.target_space.solve import solve
from jobs.target_space.space import Space
from jobs.target_space.target import TargetSpace
from jobs.vectorized.layers import stacked_layer, swap_steps
from service.specs.train import TrainSpec

PullBack = Callable[[Any], Any]
"""Turns the loss's gradients by the weights [members, weights] into those by the values."""


class StackedSpace(Protocol):
    """How all members' weights follow from the space's values."""

    compiled: bool
    """Whether a whole step may be compiled with XLA."""

    def realise(self, values: Any) -> tuple[Any, PullBack]:
        """The weights [members, weights] that follow from the values [members, size], and the way back for gradients."""

    def row(self, parts: Sequence[Any]) -> Any:
        """A member's values [size], from those of each variable."""

    def parts(self, row: Any) -> list[Any]:
        """A row as the values of each variable."""


def stacked_space(specs: Sequence[TrainSpec], spaces: Sequence[Space]) -> StackedSpace:
    """The spaces of all members as one."""
    targets = [space for space in spaces if isinstance(space, TargetSpace)]
    if targets:
        return StackedTargets(targets, specs)
    return StackedWeights([tuple(variable.shape) for variable in spaces[0].variables])


class StackedWeights:
    """The optimizer changes the weights themselves."""

    compiled = True

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        self._shapes = list(shapes)

    def realise(self, values: Any) -> tuple[Any, PullBack]:
        """Return the values themselves."""
        return values, lambda gradients: gradients

    def row(self, parts: Sequence[Any]) -> Any:
        """Flatten the parts, one after another."""
        return np.concatenate([part.reshape(-1) for part in parts])

    def parts(self, row: Any) -> list[Any]:
        """Return copies of the parts."""
        return split_row(row, self._shapes)


class StackedTargets:
    """Targets of each layer [members, …], solved as jobs.target_space.target does; those of sequences lie by steps, as the layers compute.

    `spaces` give each member's realisation batch, the first one the layers too, and `specs` the ridges.
    """

    # XLA's Cholesky takes many times as long: see jobs.target_space.solve.
    compiled = False

    def __init__(self, spaces: Sequence[TargetSpace], specs: Sequence[TrainSpec]) -> None:
        like = spaces[0]
        self._members = len(specs)
        self._ridges = np.array([spec.space.ridge for spec in specs], np.float64)[:, None, None]
        self._achieved = specs[0].space.cascade == "scu"
        self._inputs = tf.constant(np.stack([space.inputs for space in spaces]))
        self._layers = [_Solved(part) if isinstance(part, TargetLayer) else stacked_layer(part) for part in like.walked]
        self._recurs = any(isinstance(part, TargetSimpleRNN) for part in like.walked)
        shapes = [tuple(variable.shape) for variable in like.variables]
        self._shapes = [(shape[1], shape[0], *shape[2:]) if self._by_steps(shape) else shape for shape in shapes]
        self._order = like.trainable

    def realise(self, values: Any) -> tuple[Any, PullBack]:
        """Solve the weights of all members, layer by layer."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            solved: dict[int, Any] = {}
            inputs, swapped, left = self._inputs, False, self._stacked(values)
            for layer in self._layers:
                if isinstance(layer, _Solved):
                    if layer.recurs and not swapped:
                        inputs, swapped = swap_steps(inputs), True
                    inputs = self._visit(layer, inputs, left.pop(0), solved)
                elif layer is not None:
                    inputs = layer(inputs)
            weights = tf.concat([tf.reshape(solved[key], [self._members, -1]) for key in self._order], axis=1)
        return weights, lambda gradients: tape.gradient(weights, values, output_gradients=gradients)

    def row(self, parts: Sequence[Any]) -> Any:
        """Flatten the parts, one after another, sequences by steps."""
        return np.concatenate([(part.swapaxes(0, 1) if self._by_steps(part.shape) else part).reshape(-1) for part in parts])

    def parts(self, row: Any) -> list[Any]:
        """Return copies of the parts, sequences by examples."""
        return [part.swapaxes(0, 1).copy() if self._by_steps(part.shape) else part for part in split_row(row, self._shapes)]

    def _by_steps(self, shape: Sequence[int]) -> bool:
        return self._recurs and len(shape) == 3

    def _stacked(self, values: Any) -> list[Any]:
        """The targets of each layer: [members, steps, examples, units] or [members, examples, units]."""
        parts = tf.split(values, [int(np.prod(shape)) for shape in self._shapes], axis=1)
        return [tf.reshape(part, [self._members, *shape]) for part, shape in zip(parts, self._shapes, strict=True)]

    def _visit(self, layer: "_Solved", inputs: Any, targets: Any, solved: dict[int, Any]) -> Any:
        """Solve a layer's weights; return what the next layer gets."""
        rows = layer.rows(inputs, targets)
        matrix = solve(rows, tf.reshape(targets, [self._members, -1, targets.shape[-1]]), self._ridges)
        solved |= layer.split(matrix)
        return layer.call(inputs, solved) if self._achieved else layer.outputs(targets)


class _Solved:
    """A layer of the chain whose weights are solved, for all members."""

    def __init__(self, part: TargetLayer) -> None:
        self.recurs = isinstance(part, TargetSimpleRNN)
        self._part = part
        call = stacked_layer(part.layer)
        # The loop's operations are XLA's alone.
        self._call: Any = tf.function(call, jit_compile=True, autograph=False) if self.recurs else call

    def rows(self, inputs: Any, targets: Any) -> Any:
        """A, [members, rows, columns]: a one, the inputs, and where the layer recurs the activations of the step before."""
        if self.recurs:
            states = self._part.cell.activation(targets)
            inputs = tf.concat([inputs, tf.pad(states[:, :-1], [[0, 0], [1, 0], [0, 0], [0, 0]])], axis=-1)
        flat = tf.reshape(inputs, [inputs.shape[0], -1, inputs.shape[-1]])
        return tf.concat([tf.ones_like(flat[..., :1]), flat], axis=-1)

    def split(self, matrix: Any) -> dict[int, Any]:
        """A matrix [members, columns, units] as values of the layer's variables, by their ids."""
        variables, (members, _, units) = self._part.variables, matrix.shape
        parts = tf.split(matrix, [int(np.prod(v.shape)) // units for v in variables], axis=1)
        return {id(v): tf.reshape(part, [members, *v.shape]) for v, part in zip(variables, parts, strict=True)}

    def call(self, inputs: Any, solved: dict[int, Any]) -> Any:
        """What the layer gives with its solved weights."""
        return self._call(inputs, *(solved[id(variable)] for variable in self._part.layer.trainable_variables))

    def outputs(self, targets: Any) -> Any:
        """φ of targets that are met."""
        states = self._part.cell.activation(targets)
        return states[:, -1] if self.recurs and not self._part.layer.return_sequences else states


def split_row(row: Any, shapes: Sequence[Sequence[int]]) -> list[Any]:
    """Copies of a row's parts, which it holds one after another."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    return [part.reshape(shape).copy() for part, shape in zip(np.split(row, ends[:-1]), shapes, strict=True)]
