"""The space that a spec asks for, with the realisation batch out of its training examples."""

import contextlib

import keras

from jobs.datasets.load import Arrays, scaled
from jobs.datasets.reading import Indices, open_reader
from jobs.models.registry import model_inputs
from jobs.target_space.space import Space, WeightSpace
from jobs.target_space.target import TargetSpace
from service.specs.train import TrainSpec


def make_space(spec: TrainSpec, model: keras.Model, arrays: Arrays, rows: Indices) -> Space:
    """The spec's space for a model that trains on the examples `rows`, of which target space takes the first ones.

    To be made within the strategy's scope. Raise InvalidInput for a model that target space cannot train.
    """
    if spec.space.name == "weight":
        return WeightSpace(model)
    first = rows[: spec.space.realisation]
    with contextlib.closing(open_reader(arrays.train, arrays.train_labels, iter([first]))) as reader:
        columns = reader.take(first)
    features = scaled({name: array for name, array in columns.items() if name != "label"}, arrays.features)
    return TargetSpace(model, model_inputs(model, features), spec.space, spec.seed)
