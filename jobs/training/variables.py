"""Copies of Keras variables and their restoration; what random layers draw from, different on each worker."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state

from jobs.artifacts.tensors import Tensors
from service.errors import UserFailure

GLOBAL_STREAM = "global seed generator"
"""The key of its state beside the model's variables, whose keys begin with digits."""


class GlobalStream(keras.random.SeedGenerator):
    """What `keras.random.normal(shape)` and its like draw from without a seed: (seed, counter), as in a layer's generator.

    Keras' own instead mixes both numbers with every draw, so that no rank's could follow from another's.
    """

    def next(self, ordered: bool = True) -> Any:
        return super().next()


def global_stream() -> GlobalStream:
    """Return this thread's global generator, replaced where it is Keras' own."""
    # Public Keras has no way to it; 3.15 is pinned and tests draw from it.
    stream = global_state.get_global_attribute("global_seed_generator")
    if not isinstance(stream, GlobalStream):
        stream = GlobalStream()
        global_state.set_global_attribute("global_seed_generator", stream)
    return stream


def draw_from(stream: GlobalStream) -> None:
    """Make a stream this thread's: Keras has a global generator for each, and TensorFlow traces replicas in threads."""
    global_state.set_global_attribute("global_seed_generator", stream)


def copy_model(model: keras.Model) -> Tensors:
    """Copies of a model's variables, and of what its layers draw from beside their own generators."""
    return {**copy_variables(model.variables), GLOBAL_STREAM: np.array(keras.ops.convert_to_numpy(global_stream().state))}


def copy_variables(variables: list[Any]) -> Tensors:
    """Copies in host memory."""
    keys = keys_of(variables)
    # `numpy` makes the one copy: Keras' own way makes three of each, two of them at a time.
    return {keys[id(variable)]: np.asarray(keras.ops.convert_to_tensor(variable).numpy()) for variable in variables}


def keys_of(variables: Sequence[Any]) -> dict[int, str]:
    """Return the key of each variable among copies, its position and path, by the variable's id."""
    return {id(variable): f"{index:05d} {variable.path}" for index, variable in enumerate(variables)}


def assign_variables(variables: list[Any], tensors: Tensors) -> None:
    """Put copies back by position; raise UserFailure when the model is not the one that was copied."""
    stored = [tensors[key] for key in sorted(tensors) if key != GLOBAL_STREAM]
    shapes = [tuple(variable.shape) for variable in variables]
    if [array.shape for array in stored] != shapes:
        raise UserFailure(
            f"The checkpoint holds {len(stored)} variables and the model has {len(shapes)}, or their shapes differ: "
            "the model changed since the run began; restore its code, or start a run with another name."
        )
    for variable, array in zip(variables, stored, strict=True):
        variable.assign(array)
    if GLOBAL_STREAM in tensors:
        global_stream().state.assign(tensors[GLOBAL_STREAM])


def seed_states(model: keras.Model) -> list[Any]:
    """Return the state variables of the layers' random generators."""
    return [
        variable
        for variable in model.variables
        if variable.path.endswith("seed_generator_state") and tuple(variable.shape) == (2,)
    ]


def draw_differently(model: keras.Model, rank: int) -> None:
    """Give the random layers of worker `rank` a stream of their own: a function of the seed and the rank.

    A Keras SeedGenerator is (seed, counter). The counters are equal on all workers; a checkpoint holds rank 0's
    pair, from which every rank's follows, whatever the number of workers that resume.
    """
    states = [*seed_states(model), global_stream().state]
    if rank == 0:
        return
    for state in states:
        seed, counter = (int(value) for value in keras.ops.convert_to_numpy(state))
        stream = np.random.SeedSequence([seed % 2**32, rank]).generate_state(1, np.uint32)[0]
        state.assign(np.array([stream % 2**31, counter]))
