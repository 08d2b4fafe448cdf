"""Target space: the optimizer changes targets for the layers' sums on fixed examples, and the weights are solved from them.

After Fairbank, Samothrakis and Citi, "Deep Learning in Target Space", JMLR 23(8), 2022. With T_l the targets of layer l, A_l its rows
on the realisation batch X̄ (section 3.1; here the first training examples in stored order) and λ the ridge, the weights are, by
equations (6) and (7),

    W_l = argmin ‖A_l W − T_l‖² + λ‖W‖²

`scu`, the sequential cascade untangling, feeds the next layer what these weights really give, φ(A_l W_l); `ocu`, the optimistic
one, φ(T_l). A recurrent layer's own solve is always optimistic. Dropout is off in the realisation.

Every worker solves the same problem, and gradients by the weights, fewer than the targets, are what the workers sum up. So their
processors have to compute alike. One and two workers agree as in weight space at first, but rounding grows faster here: with Adam,
which turns the smallest gradients into whole steps, it was seen in the fourth digit of the loss after ten steps.

Measured on one thread, SimpleRNN(203) over 250 steps, 50 examples in the realisation and in the batch: 170 ms for the solves and
their gradient, 34 ms for the model's, 5 ms for Adam.
"""

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from jobs.target_space.layers import TargetLayer, TargetSimpleRNN, target_layer
from jobs.target_space.solve import solve
from jobs.target_space.space import PullBack
from service.errors import InvalidInput
from service.specs.parts import SpaceSpec

_STREAM = 2**63 + 2
"""The second key word of Philox for initial targets, beside those of jobs.training.batches."""


class TargetSpace:
    """Targets of each layer [examples, …, units] for a model that is a chain of layers, as the optimizer's variables.

    `inputs` is the realisation batch as the model takes it. To be made within the strategy's scope; `begin` gives the
    targets their first values. Raise InvalidInput for a model that cannot be trained so.
    """

    def __init__(self, model: keras.Model, inputs: Any, settings: SpaceSpec, seed: int) -> None:
        self._settings = settings
        self._seed = seed
        self._parts = [_part(layer) for layer in chain(model)]
        self.inputs = self._shortened(tf.convert_to_tensor(inputs))
        """The realisation batch, at its length."""
        self.trainable = [id(variable) for variable in model.trainable_variables]
        """The ids of the weights, in the model's order."""
        self._solved = [part for part in self._parts if isinstance(part, TargetLayer)]
        self.variables = [
            keras.Variable(np.zeros(shape, np.float32), name=f"targets_{part.layer.name}")
            for part, shape in zip(self._solved, self._shapes(), strict=True)
        ]
        self.kept = self.variables
        self.walked = self._parts[: self._parts.index(self._solved[-1]) + 1]
        """The layers up to the last one that is solved."""

    def begin(self) -> None:
        """First targets: drawn from the seed and projected once, T_l ← A_l W_l; or the sums that the model's weights give."""
        from_weights = self._settings.initial == "weights"
        generator = np.random.Generator(np.random.Philox(key=np.array([self._seed, _STREAM], np.uint64)))

        def project(part: TargetLayer, variable: Any, inputs: Any) -> tuple[Any, Any]:
            drawn = tf.constant(truncated_normal(generator, tuple(variable.shape), self._settings.target_std))
            rows = part.rows(inputs, drawn)
            matrix = solve(rows, tf.reshape(drawn, [-1, part.units]), self._settings.ridge)
            return tf.reshape(tf.matmul(rows, matrix), drawn.shape), matrix

        def meet(part: TargetLayer, variable: Any, inputs: Any) -> tuple[Any, Any]:
            matrix = part.matrix()
            return part.sums(inputs, matrix), matrix

        def start(part: TargetLayer, variable: Any, inputs: Any) -> Any:
            targets, matrix = (meet if from_weights else project)(part, variable, inputs)
            variable.assign(targets)
            return self._outputs(part, inputs, matrix, targets, self._settings.cascade == "scu" or from_weights)

        self._walk(start)
        self.realise()

    def realise(self) -> PullBack:
        """Solve all weights and put them into the model; return the vector-Jacobian product of the solves."""
        solved: dict[int, tuple[Any, Any]] = {}

        def solve_layer(part: TargetLayer, variable: Any, inputs: Any) -> Any:
            targets = values[id(variable)]
            matrix = solve(part.rows(inputs, targets), tf.reshape(targets, [-1, part.units]), self._settings.ridge)
            solved.update({id(v): (v, value) for v, value in zip(part.variables, part.split(matrix), strict=True)})
            return self._outputs(part, inputs, matrix, targets, self._settings.cascade == "scu")

        values = {id(variable): tf.convert_to_tensor(variable.value) for variable in self.variables}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(list(values.values()))
            self._walk(solve_layer)
        for variable, value in solved.values():
            variable.assign(value)
        weights = [solved[key][1] for key in self.trainable]
        return lambda gradients: tape.gradient(weights, list(values.values()), output_gradients=gradients)

    def forward(self, inputs: Any, training: bool) -> Any:
        """The model's layers one after another, recurrent ones by their faster scan."""
        for part in self._parts:
            inputs = part.forward(inputs, training) if isinstance(part, TargetLayer) else part(inputs, training=training)
        return inputs

    def _walk(self, visit: Callable[[TargetLayer, Any, Any], Any]) -> None:
        """Pass the realisation batch through the layers; `visit` gives what a solved layer hands on."""
        inputs, variables = self.inputs, iter(self.variables)
        for part in self.walked:
            inputs = visit(part, next(variables), inputs) if isinstance(part, TargetLayer) else part(inputs, training=False)

    def _outputs(self, part: TargetLayer, inputs: Any, matrix: Any, targets: Any, achieved: bool) -> Any:
        if not achieved:
            return part.outputs(targets)
        if isinstance(part, TargetSimpleRNN):
            return part.achieved(inputs, matrix)
        return part.outputs(part.sums(inputs, matrix))

    def _shapes(self) -> list[tuple[int, ...]]:
        shapes, inputs = [], self.inputs
        for part in self._parts:
            if isinstance(part, TargetLayer):
                shapes.append(part.sums_shape(inputs))
                inputs = part.outputs(tf.zeros(shapes[-1]))
            else:
                inputs = part(inputs, training=False)
        return shapes

    def _shortened(self, inputs: Any) -> Any:
        length = self._settings.realisation_length
        if length is None:
            return inputs
        recurrent = any(isinstance(part, TargetSimpleRNN) for part in self._parts)
        if not recurrent or any(isinstance(part, (keras.layers.Flatten, keras.layers.Reshape)) for part in self._parts):
            raise InvalidInput(
                "space.realisation_length shortens sequences, but the model has no SimpleRNN or puts all steps into one "
                "vector: leave it out."
            )
        if length > inputs.shape[1]:
            raise InvalidInput(
                f"space.realisation_length is {length}, but the sequences have {inputs.shape[1]} steps: use at most as many."
            )
        return inputs[:, :length]


def chain(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model of which each takes what the one before gives; raise InvalidInput for any other model."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    sequential = isinstance(model, keras.Sequential) or (
        len(getattr(model, "inputs", None) or ()) == 1
        and all(len(layer._inbound_nodes) == 1 for layer in layers)
        and all(after.input is before.output for before, after in itertools.pairwise(layers))
        and layers[-1].output is model.outputs[0]
    )
    if not sequential or len(set(map(id, layers))) < len(layers):
        raise InvalidInput(
            f"Target space takes models whose layers form one chain, each used once, and {model.name!r} does not: "
            "use such a model, or set space=weight."
        )
    flat: list[keras.layers.Layer] = []
    for layer in layers:
        flat += chain(layer) if isinstance(layer, keras.Model) else [layer]
    return flat


def _part(layer: keras.layers.Layer) -> Any:
    if isinstance(layer, keras.layers.Masking):
        raise InvalidInput(f"The layer {layer.name!r} masks steps, which target space does not know: set space=weight.")
    return target_layer(layer) if layer.trainable_variables else layer


def truncated_normal(generator: np.random.Generator, shape: tuple[int, ...], std: float) -> NDArray[np.float32]:
    """Normal values, drawn again where they are beyond two standard deviations."""
    drawn = generator.standard_normal(shape, np.float32)
    while (far := np.abs(drawn) > 2).any():
        drawn[far] = generator.standard_normal(int(far.sum()), np.float32)
    return drawn * np.float32(std)
