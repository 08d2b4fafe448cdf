"""One worker's copy of the model and the compiled functions that train and evaluate it, many steps a call."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from jobs.artifacts.tensors import Tensors
from jobs.target_space.space import Space, WeightSpace
from jobs.tasks.registry import Task
from jobs.training.averages import Averages
from jobs.training.example_weights import ExampleWeights
from jobs.training.gradient_sums import all_reduce_seconds, sum_gradients
from jobs.training.loss_scale import LossScale
from jobs.training.metrics import ExtraMetrics
from jobs.training.variables import assign_variables, copy_model, copy_variables, draw_from, global_stream
from service.specs.train import TrainSpec

Floats = NDArray[np.float32]
Made = TypeVar("Made")


@dataclass(frozen=True)
class ChunkResult:
    """What a chunk of steps gave, summed over all workers.

    `sums`: [steps, 1 + number of metrics], the sum over the global batch of the loss and of each metric, step by step.
    `flags`: the sum over the workers of what each passed in.
    """

    sums: Floats
    flags: Floats


class Replica:
    """Model, optimizer and compiled functions; all workers hold the same values after each step.

    `inputs` turns the features of a batch into what the model takes; `scales` divides each feature's stored values; None keeps
    whole numbers.
    `space` is what the optimizer works in, the model's weights if none is given. `weights` are those of the training examples; `extra`: further
    metrics of evaluations.
    """

    def __init__(
        self,
        spec: TrainSpec,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        task: Task,
        scales: Mapping[str, float | None],
        inputs: Callable[[dict[str, Any]], Any],
        space: Space | None = None,
        weights: ExampleWeights | None = None,
        extra: ExtraMetrics | None = None,
    ) -> None:
        self.model = model
        """Its weights follow from the last step in `realised_model` alone: here, in target space, they may be older."""
        self.optimizer = optimizer
        self.space: Space = space or WeightSpace(model)
        self.metric_names: tuple[str, ...] = task.metric_names
        self._batch = spec.batch
        self._strategy = strategy
        self._workers = strategy.num_replicas_in_sync
        self.task = task
        self._scales = scales
        self._inputs = inputs
        self.extra = extra or ExtraMetrics((), 0)
        self._weights = weights or ExampleWeights()
        self._stream = global_stream()
        self._trainable = list(model.trainable_variables)
        scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        self._loss_scale = LossScale(optimizer, model, self._trainable) if scaled else None
        self._forward_backward = tf.function(self._gradients, jit_compile=True) if spec.jit_compile else self._gradients
        self._train = tf.function(self._train_chunk, reduce_retracing=True)
        self._evaluate = tf.function(self._evaluate_chunk, reduce_retracing=True)
        self._sum = tf.function(self._all_reduce_vector, reduce_retracing=True)
        self._realise = tf.function(self._realise_weights)
        self._stale = False
        self._averages = Averages(optimizer, self.space.variables)
        self._ended = False
        self._made: dict[tuple[Any, ...], Any] = {}

    def realised_model(self) -> keras.Model:
        """Give the model the weights that follow from the last step, in target space by a solve, and return it.

        Derived: in each call of `train` the solve would take a fifth of the time at a delay of 200.
        """
        if self._stale:
            self._realise()
            self._stale = False
        return self.model

    def train(self, features: Mapping[str, Any], labels: Any, flags: Floats) -> ChunkResult:
        """Do one step for each row of `labels` [steps, local batch]; `flags` are summed over the workers on the way."""
        result = self._train(dict(features), labels, flags).numpy()
        self._stale = bool(self.space.kept)
        width = 1 + len(self.metric_names)
        return ChunkResult(sums=result[len(flags) :].reshape(-1, width), flags=result[: len(flags)])

    def evaluate(self, features: Mapping[str, Any], labels: Any, weights: Any) -> Floats:
        """Sums over all workers' examples, of shapes [batches, size, …], of loss, metrics and weights, [2 + metrics], and after them of
        the states of the further metrics, [extra.width]."""
        self.realised_model()
        result: Floats = self._evaluate(dict(features), labels, weights).numpy()
        return result

    def sum_over_workers(self, values: NDArray[Any]) -> NDArray[Any]:
        """The sum of a vector over all workers."""
        result: NDArray[Any] = self._sum(tf.constant(values)).numpy()
        return result

    def alike(self, numbers: Sequence[int]) -> list[bool]:
        """Which of the numbers, below 2³², all workers give; every worker gets the same answer."""
        halves = np.array([(number >> 16, number & 0xFFFF) for number in numbers], np.float64).reshape(-1)
        # Sums of squares below 2⁵³, so exact: n Σx² = (Σx)² where all x are equal, and there alone.
        count, *sums = (int(total) for total in self.sum_over_workers(np.concatenate([[1.0], halves, halves**2])))
        same = [count * square == total**2 for total, square in zip(sums[: len(halves)], sums[len(halves) :], strict=True)]
        return [high and low for high, low in zip(same[::2], same[1::2], strict=True)]

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))

    def copies(self) -> tuple[Tensors, Tensors, Tensors]:
        """Copies in host memory of the model's, the optimizer's and the space's variables."""
        return copy_model(self.realised_model()), copy_variables(self.optimizer.variables), copy_variables(self.space.kept)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[bool]:
        """Within it the model holds the averages of its weights, if the optimizer keeps any: it gives whether it does."""
        there = self._averages.there and not self._ended
        if there:
            self._exchange()
        try:
            yield there
        finally:
            if there:
                self._exchange()

    def averages(self) -> Tensors:
        """Copies of the model's variables with the averages of its weights; nothing where the optimizer keeps none."""
        with self.averaged() as there:
            return copy_model(self.realised_model()) if there else {}

    def end_with(self, weights: Tensors | None) -> None:
        """Give the model these weights, else its averages, for good: no step follows."""
        if weights is not None:
            assign_variables(self.realised_model().variables, weights)
        elif self._averages.there and not self._ended:
            self._exchange()
        self._ended = True

    def _exchange(self) -> None:
        self._averages.exchange()
        self._stale = bool(self.space.kept)

    @property
    def traces(self) -> int:
        """How often the training function was built: a call that builds it takes seconds more."""
        return int(self._train.experimental_get_tracing_count())

    def forward(self, model: keras.Model) -> Callable[[Mapping[str, Any]], Floats]:
        """A function of features [size, …]: what `model`, this replica's or one that shares its layers, gives for them.

        Each worker gives its own examples, all alike in shape and number of calls.
        """

        def call(features: dict[str, Any]) -> Any:
            draw_from(self._stream)
            return tf.cast(model(self.inputs_of(features), training=False), tf.float32)

        self.realised_model()
        compiled = tf.function(lambda features: self._local(self._strategy.run(call, args=(features,))), reduce_retracing=True)
        return lambda features: np.asarray(compiled(dict(features)).numpy(), np.float32)

    def once(self, make: Callable[..., Made], *of: Any) -> Made:
        """What `make(replica, *of)` gave first: where several runs take turns in one replica, its functions are built once."""
        key = (make, *of)
        if key not in self._made:
            self._made[key] = make(self, *of)
        made: Made = self._made[key]
        return made

    def all_reduce_seconds(self, repeats: int) -> float:
        """Seconds that one sum over the workers of as much as all gradients takes, while nothing else runs; 0 for one worker."""
        return all_reduce_seconds(self._strategy, [tuple(variable.shape) for variable in self._trainable], repeats)

    def _realise_weights(self) -> None:
        self.space.realise()

    def _train_chunk(self, features: dict[str, Any], labels: Any, flags: Any) -> Any:
        count = tf.shape(labels)[0]
        rows = tf.TensorArray(tf.float32, size=count, element_shape=[1 + len(self.metric_names)])
        for index in tf.range(count):
            rows = rows.write(index, self._step({name: array[index] for name, array in features.items()}, labels[index]))
        return self._all_reduce_vector(tf.concat([flags, tf.reshape(rows.stack(), [-1])], axis=0))

    def _step(self, features: dict[str, Any], labels: Any) -> Any:
        pull_back = self.space.realise()
        gradients, row = self._strategy.run(self._summed_gradients, args=(features, labels))
        summed = [self._local(gradient) for gradient in gradients]
        # Outside the replica context Keras does not sum the gradients once more, and clips what is the global gradient.
        if self._loss_scale is None:
            self.optimizer.apply(pull_back(summed), self.space.variables)
        else:
            self._loss_scale.apply(summed, pull_back, self.space.variables)
        return self._local(row)

    def _summed_gradients(self, features: dict[str, Any], labels: Any) -> tuple[list[Any], Any]:
        gradients, row = self._forward_backward(features, labels)
        return (sum_gradients(gradients) if self._workers > 1 else gradients), row

    def _gradients(self, features: dict[str, Any], labels: Any) -> tuple[list[Any], Any]:
        with tf.GradientTape() as tape:
            losses, row = self._losses(features, labels)
            loss = tf.reduce_sum(losses) / self._batch
            if self.model.losses:
                loss += tf.add_n([tf.cast(extra, tf.float32) for extra in self.model.losses]) / self._workers
            if self._loss_scale is not None:
                loss = self.optimizer.scale_loss(loss)
        variables = [variable.value for variable in self._trainable]
        gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(gradient) for gradient in gradients], row

    def _losses(self, features: dict[str, Any], labels: Any) -> tuple[Any, Any]:
        draw_from(self._stream)
        logits = self.space.forward(self.inputs_of(features), True)
        losses = self.task.losses(labels, logits)
        weights = self._weights.of(labels, features)
        if weights is not None:
            losses = losses * weights
        metrics = self.task.metrics(labels, logits)
        values = [losses, *(metrics[name] for name in self.metric_names)]
        return losses, tf.stack([tf.reduce_sum(value) for value in values])

    def inputs_of(self, features: Mapping[str, Any]) -> Any:
        """What the model takes, out of stored values of features: divided as the run asks for, without a column of weights."""
        return self._inputs({name: self._scale(name, array) for name, array in features.items() if name in self._scales})

    def _scale(self, name: str, array: Any) -> Any:
        scale = self._scales[name]
        if scale is None:
            return array
        return tf.cast(array, tf.float32) * tf.constant(1.0 / scale, tf.float32)

    def _all_reduce_vector(self, vector: Any) -> Any:
        if self._workers == 1:
            return vector

        def reduce(values: Any) -> Any:
            # The identity puts the vector on this replica's device, which is where the sum goes.
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(values))

        return self._local(self._strategy.run(reduce, args=(vector,)))

    def _evaluate_chunk(self, features: dict[str, Any], labels: Any, weights: Any) -> Any:
        total = tf.zeros([2 + len(self.metric_names) + self.extra.width])
        for index in tf.range(tf.shape(labels)[0]):
            batch = {name: array[index] for name, array in features.items()}
            total += self._local(self._strategy.run(self._evaluate_batch, args=(batch, labels[index], weights[index])))
        return self._all_reduce_vector(total)

    def _evaluate_batch(self, features: dict[str, Any], labels: Any, weights: Any) -> Any:
        draw_from(self._stream)
        logits = self.model(self.inputs_of(features), training=False)
        metrics = self.task.metrics(labels, logits)
        values = [self.task.losses(labels, logits), *(metrics[name] for name in self.metric_names)]
        # A padded example may well give infinity: zero times that is not zero.
        summed = [tf.reduce_sum(tf.where(weights > 0, value, tf.zeros_like(value))) for value in values]
        plain = tf.stack([*summed, tf.reduce_sum(weights)])
        return tf.concat([plain, *self.extra.sums(labels, logits, weights)], axis=0)

    def _local(self, value: Any) -> Any:
        return self._strategy.experimental_local_results(value)[0]
