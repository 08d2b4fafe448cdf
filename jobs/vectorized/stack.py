"""The variables of all members stacked along a first axis, and the compiled functions that train and evaluate them together."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from jobs.artifacts.tensors import Tensors
from jobs.target_space.space import Space
from jobs.training.replica import Replica
from jobs.training.variables import keys_of
from jobs.vectorized.layers import dropouts, stacked_forward
from jobs.vectorized.optimizer import StackedOptimizer
from jobs.vectorized.spaces import split_row, stacked_space
from service.specs.train import TrainSpec

Floats = NDArray[np.float32]
Held = tuple[Tensors, Tensors, Tensors]
"""A member's model, optimizer and space, as its checkpoints hold them."""


class Stack:
    """The stacked variables of the runs of `specs`; `like` is the replica of one of them, whose shapes, names and task are those of all.

    `spaces` are the members' own, in which their optimizers work.
    """

    def __init__(self, specs: Sequence[TrainSpec], like: Replica, spaces: Sequence[Space], total_steps: int) -> None:
        self._like = like
        self._model = like.model
        self._members, self._batch = len(specs), specs[0].batch
        trained = list(self._model.trainable_variables)
        self._shapes = [tuple(variable.shape) for variable in trained]
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        self._space = stacked_space(specs, spaces)
        self._changed = spaces[0].variables
        sizes = [int(np.prod(variable.shape)) for variable in self._changed]
        self._values = keras.Variable(np.zeros((self._members, sum(sizes)), np.float32), name="members")
        self._optimizer = StackedOptimizer(specs, total_steps, self._values, sizes)
        self._dropouts = dropouts(self._model)
        self._seeds = [tf.Variable(tf.zeros([self._members, 2], layer.seed_generator.state.dtype)) for layer in self._dropouts]
        self._unchanged: list[Tensors] = []
        self._forward = stacked_forward(self._model)
        self._differentiate = tf.function(self._gradients, jit_compile=True, autograph=False)
        self._apply = tf.function(self._optimizer.apply, jit_compile=True, autograph=False)
        self._step = tf.function(self._train_step, jit_compile=self._space.compiled, autograph=False)
        self._train: Any = None
        self._evaluate = tf.function(self._evaluate_batch, jit_compile=True, autograph=False)
        self._rates = tf.function(self._optimizer.rates, autograph=False)
        self._copies: list[Held] | None = None
        self._copied_rates: Floats | None = None
        self._realise = tf.function(lambda: self._space.realise(tf.convert_to_tensor(self._values))[0], autograph=False)
        self._weights: Any = None
        model_keys = keys_of(self._model.variables)
        self._weight_keys = [model_keys[id(variable)] for variable in trained]
        self._seed_keys = [model_keys[id(layer.seed_generator.state)] for layer in self._dropouts]
        space_keys = keys_of(spaces[0].kept)
        self._space_keys = [space_keys[id(variable)] for variable in spaces[0].kept]
        self._optimizer_keys = keys_of(like.optimizer.variables)
        self._slot_keys = {name: self._keys_of_slot(name) for name in self._optimizer.slots}

    def load(self, held: Sequence[Held]) -> None:
        """Give each member its model, optimizer and space; all have done the same number of steps."""
        models, optimizers, spaces = ([by_kind[kind] for by_kind in held] for kind in (0, 1, 2))
        changed = (spaces, self._space_keys) if self._space_keys else (models, self._weight_keys)
        self._values.assign(self._rows(*changed))
        for name, slot in self._optimizer.slots.items():
            slot.assign(self._rows(optimizers, self._slot_keys[name]))
        self._optimizer.iterations.assign(optimizers[0][self._optimizer_keys[id(self._like.optimizer.iterations)]])
        for key, seeds in zip(self._seed_keys, self._seeds, strict=True):
            seeds.assign(np.stack([model[key] for model in models]))
        own = {*self._weight_keys, *self._seed_keys}
        self._unchanged = [{key: array for key, array in model.items() if key not in own} for model in models]
        self._copies = self._copied_rates = self._weights = None

    def held(self, member: int) -> Held:
        """Copies of a member's model, optimizer and space in host memory."""
        if self._copies is None:
            self._copies = self._read()
        return self._copies[member]

    def train(self, features: Mapping[str, Any], labels: Any) -> Floats:
        """Do a step for each row of `labels` [steps, members, batch, …]; the sums over the batch of loss and metrics, [steps, members, 1 + metrics]."""
        self._copies = self._copied_rates = self._weights = None
        if self._train is None:
            self._train = self._built(features, labels)
        result: Floats = self._train({name: tf.constant(array) for name, array in features.items()}, tf.constant(labels)).numpy()
        return result

    @property
    def built(self) -> bool:
        """Whether the training function is there; the call that builds it takes seconds more."""
        return self._train is not None

    def _built(self, features: Mapping[str, Any], labels: Any) -> Any:
        """The training function for any number of steps, built once."""

        def any_steps(array: Any) -> tf.TensorSpec:
            return tf.TensorSpec([None, *array.shape[1:]], array.dtype)

        function = tf.function(self._train_chunk)
        return function.get_concrete_function({name: any_steps(array) for name, array in features.items()}, any_steps(labels))

    def evaluate(self, features: Mapping[str, Any], labels: Any, counts: Any) -> Floats:
        """Sums of loss, metrics and examples over those [members, examples, …] that count: [members, 2 + metrics]."""
        result: Floats = self._evaluate(dict(features), labels, counts, self._settled()).numpy()
        return result

    def rates(self) -> Floats:
        """Each member's learning rate."""
        if self._copied_rates is None:
            self._copied_rates = self._rates().numpy()
        return self._copied_rates

    def _settled(self) -> Any:
        """The weights [members, weights] that follow from the last step."""
        if self._weights is None:
            self._weights = self._realise()
        return self._weights

    def _rows(self, tensors: Sequence[Tensors], keys: Sequence[str]) -> Floats:
        """Stack the members' values under these keys, one row each: [members, size]."""
        return np.stack([self._space.row([each[key] for key in keys]) for each in tensors]).astype(np.float32)

    def _keys_of_slot(self, name: str) -> list[str]:
        """Return the keys under which a run apart keeps this slot of each variable."""
        by_name = {variable.name: variable for variable in self._like.optimizer.variables}
        slots = [by_name[f"{variable.path.replace('/', '_')}_{name}"] for variable in self._changed]
        return [self._optimizer_keys[id(slot)] for slot in slots]

    def _read(self) -> list[Held]:
        weights, values = self._settled().numpy(), self._values.numpy()
        slots = {name: slot.numpy() for name, slot in self._optimizer.slots.items()}
        seeds = [each.numpy() for each in self._seeds]
        iterations, rates = np.array(self._optimizer.iterations.numpy()), self.rates()
        held = []
        for member in range(self._members):
            model: Tensors = dict(zip(self._weight_keys, split_row(weights[member], self._shapes), strict=True))
            model |= {key: np.array(each[member]) for key, each in zip(self._seed_keys, seeds, strict=True)}
            model |= self._unchanged[member]
            optimizer = {self._optimizer_keys[id(self._like.optimizer.iterations)]: iterations}
            for name, rows in slots.items():
                optimizer |= dict(zip(self._slot_keys[name], self._space.parts(rows[member]), strict=True))
            # A rate without a schedule is a variable of its own.
            optimizer |= {key: np.array(rates[member]) for key in self._optimizer_keys.values() if key not in optimizer}
            space = dict(zip(self._space_keys, self._space.parts(values[member]), strict=True)) if self._space_keys else {}
            held.append((model, optimizer, space))
        return held

    def _train_chunk(self, features: dict[str, Any], labels: Any) -> Any:
        count = tf.shape(labels)[0]
        rows = tf.TensorArray(tf.float32, size=count, element_shape=[self._members, 1 + len(self._like.metric_names)])
        for index in tf.range(count):
            batch = {name: array[index] for name, array in features.items()}
            rows = rows.write(index, self._step(batch, labels[index], self._noise(labels.shape[2])))
        return rows.stack()

    def _noise(self, batch: int) -> list[Any]:
        """What each dropout layer multiplies with, drawn for each member as the layer itself draws with its seed."""
        drawn = []
        for layer, seeds in zip(self._dropouts, self._seeds, strict=True):
            state, ones, members = layer.seed_generator.state, tf.ones([batch, *layer.output.shape[1:]]), []
            for member in range(self._members):
                state.assign(seeds[member])
                members.append(layer(ones, training=True))
            drawn.append(tf.stack(members))
            seeds.assign_add(tf.constant([[0, 1]], seeds.dtype) * tf.ones([self._members, 1], seeds.dtype))
        return drawn

    def _train_step(self, features: dict[str, Any], labels: Any, noise: list[Any]) -> Any:
        weights, pull_back = self._space.realise(tf.convert_to_tensor(self._values))
        sums, gradients = self._differentiate(features, labels, weights, noise)
        self._apply(pull_back(gradients))
        return sums

    def _gradients(self, features: dict[str, Any], labels: Any, weights: Any, noise: list[Any]) -> tuple[Any, Any]:
        """Sums as `_sums` gives them, and the loss's gradient by the weights."""
        with tf.GradientTape() as tape:
            tape.watch(weights)
            sums = self._sums(features, labels, weights, noise)
            loss = tf.reduce_sum(sums[:, 0]) / self._batch
        return sums, tape.gradient(loss, weights)

    def _sums(self, features: dict[str, Any], labels: Any, weights: Any, noise: list[Any], counts: Any = None) -> Any:
        """Of the loss and each metric over a member's examples, those alone that count: [members, 1 + metrics]."""
        members, examples = labels.shape[:2]
        parts = [
            tf.reshape(part, [members, *shape])
            for part, shape in zip(tf.split(weights, self._sizes, axis=1), self._shapes, strict=True)
        ]
        logits = self._forward(self._like.inputs_of(features), parts, noise)
        rows, flat = (
            tf.reshape(labels, [members * examples, *labels.shape[2:]]),
            tf.reshape(logits, [members * examples, *logits.shape[2:]]),
        )
        metrics = self._like.task.metrics(rows, flat)
        values = [self._like.task.losses(rows, flat), *(metrics[name] for name in self._like.metric_names)]
        kept = [tf.reshape(value, [members, examples]) for value in values]
        if counts is not None:
            # A padded example may well give infinity: zero times that is not zero.
            kept = [tf.where(counts > 0, value, tf.zeros_like(value)) for value in kept]
        return tf.stack([tf.reduce_sum(value, axis=1) for value in kept], axis=1)

    def _evaluate_batch(self, features: dict[str, Any], labels: Any, counts: Any, weights: Any) -> Any:
        sums = self._sums(features, labels, weights, [], counts)
        return tf.concat([sums, tf.reduce_sum(counts, axis=1, keepdims=True)], axis=1)
