"""Architectures by name, one file each: `lenet5` is `jobs/models/lenet5.py`, whose `build` makes the model.

A new model is one new file with `build(input_shape, classes, *, …) -> keras.Model` that returns logits, one for each class.
One that can also answer at every step of a sequence has a third parameter, `every_step`. Before `build` it declares what a plan has to
know of it: `PARAMETERS`, and what else service.registry.Model lists.
"""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import keras

from jobs.user_code import call_build, describe, load_user_function, user_traceback
from service.errors import InvalidInput, UnknownName, UserFailure
from service.registry import models
from service.specs.generated import suggested_parameters
from service.specs.train import TrainSpec

__all__ = [
    "build_model",
    "make_model",
    "model_inputs",
    "refuse_compiled_sums",
    "registered_models",
    "synchronise_batch_normalisation",
]

Shape = tuple[int, ...]


def registered_models() -> list[str]:
    """The names that a spec's `model` may have beside a user's own."""
    return list(models())


def build_model(
    spec: TrainSpec,
    input_shape: Shape | dict[str, Shape],
    classes: int,
    folder: str | None,
    every_step: bool = False,
    seen: Callable[[Any], None] = lambda outputs: None,
) -> keras.Model:
    """Make the spec's model for examples of `input_shape` (by feature name where there are several) and check it.

    It gives `classes` logits for an example or, where `every_step`, for each of its steps. `folder` is where a user's own
    module is found; `seen` gets what the model gives for two examples of zeros. Raise InvalidInput for unknown models and
    parameters of Delayline's own models, UserFailure for whatever is wrong with a user's.
    """
    model = make_model(spec, input_shape, classes, folder, every_step)
    seen(_check(model, spec.model, _only_shape(input_shape), classes, every_step))
    if spec.jit_compile:
        _without_cudnn(model)
    return model


def make_model(
    spec: TrainSpec, input_shape: Shape | dict[str, Shape], classes: int, folder: str | None, every_step: bool
) -> keras.Model:
    """As `build_model`, of a spec whose model was checked with other numbers."""
    shape = _only_shape(input_shape)
    if spec.user_module is not None:
        return call_build(load_user_function(spec.model, folder), spec.model, shape, classes, spec.model_arguments)
    return _call_registered(_registered(spec.model), spec, shape, classes, every_step)


def _only_shape(input_shape: Shape | dict[str, Shape]) -> Shape | dict[str, Shape]:
    """Of a dataset with one feature, that feature's."""
    return next(iter(input_shape.values())) if isinstance(input_shape, dict) and len(input_shape) == 1 else input_shape


def _registered(name: str) -> Callable[..., keras.Model]:
    if name.replace("_", "-") not in registered_models():
        raise UnknownName(
            f"There is no model {name[:80]!r}: use {' or '.join(registered_models())}, or your own as my_package.nets:build."
        )
    build: Callable[..., keras.Model] = importlib.import_module(f"jobs.models.{name.replace('-', '_')}").build
    return build


def _call_registered(
    build: Callable[..., keras.Model], spec: TrainSpec, shape: Any, classes: int, every_step: bool
) -> keras.Model:
    if isinstance(shape, dict):
        raise InvalidInput(
            f"The model {spec.model!r} takes one input and {spec.dataset!r} has {len(shape)}: use a model of your own for it."
        )
    taken = inspect.signature(build).parameters
    if every_step and "every_step" not in taken:
        raise InvalidInput(
            f"The model {spec.model!r} gives one answer for an example, but the task {spec.task!r} needs one for each step: "
            f"use {' or '.join(name for name, model in models().items() if model.every_step)}."
        )
    suggested = {name: value for name, value in suggested_parameters(spec.dataset, spec.dataset_params).items() if name in taken}
    steps = {"every_step": True} if every_step else {}
    try:
        return build(shape, classes, **steps, **{**suggested, **spec.model_arguments})
    except TypeError as error:
        raise InvalidInput(f"model_params do not fit the model {spec.model!r}: {str(error).replace('build() ', '')}.") from error


def _check(model: Any, name: str, shape: Shape | dict[str, Shape], classes: int, every_step: bool) -> Any:
    """The outputs for two examples of zeros."""
    if not isinstance(model, keras.Model):
        raise UserFailure(
            f"The model {name!r} must be a keras.Model, but its function returned {type(model).__name__}: return the model."
        )
    features = shape if isinstance(shape, dict) else {"x": shape}
    zeros = {feature: keras.ops.zeros((2, *dimensions)) for feature, dimensions in features.items()}
    inputs = model_inputs(model, zeros)
    try:
        logits = model(inputs, training=False)
    except Exception as error:
        raise UserFailure(
            f"The model {name!r} failed with examples of shape {shape}: {describe(error)}.", user_traceback(error)
        ) from error
    got = tuple(getattr(logits, "shape", ()))
    steps = next(iter(features.values()))[:1] if every_step else ()
    if got != (2, *steps, classes):
        wanted = f"(batch, {steps[0]}, {classes}), at each step" if steps else f"(batch, {classes}), one for each class"
        raise UserFailure(
            f"The model {name!r} must give logits of shape {wanted}, "
            f"but for a batch of 2 it gave {got or type(logits).__name__}: end it with Dense({classes})."
        )
    if not model.trainable_variables:
        raise UserFailure(f"The model {name!r} has no trainable variables: there is nothing to train.")
    return logits


def _without_cudnn(model: keras.Model) -> None:
    """XLA has no kernel for cuDNN's recurrent layers: compiled models use the loop that it can compile."""
    for layer in model._flatten_layers(include_self=True):
        if hasattr(layer, "use_cudnn"):
            layer.use_cudnn = False


def model_inputs(model: keras.Model, features: dict[str, Any]) -> Any:
    """What the model takes, out of the features of one batch.

    One feature goes to every input of the model. Several are given by the inputs' names where those fit, else in order.
    """
    inputs = getattr(model, "inputs", None) or [None]
    values = list(features.values())
    if len(values) == 1:
        return values[0] if len(inputs) == 1 else [values[0]] * len(inputs)
    names = [getattr(tensor, "name", None) for tensor in inputs]
    if set(names) <= set(features):
        return [features[str(name)] for name in names] if len(names) > 1 else features[str(names[0])]
    if len(inputs) == 1 and inputs[0] is None:
        return features
    if len(inputs) != len(values):
        raise UserFailure(
            f"The model has {len(inputs)} inputs ({', '.join(map(str, names))}) and the dataset {len(values)} features "
            f"({', '.join(features)}): give the inputs the features' names."
        )
    return values


def synchronise_batch_normalisation(model: keras.Model) -> None:
    """Make every BatchNormalization layer use the statistics of the global batch, not of one worker's share of it."""
    for layer in model._flatten_layers(include_self=True):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def refuse_compiled_sums(model: keras.Model) -> None:
    """Raise InvalidInput for a layer that sums over the workers within its call: XLA compiles no such sum, to be called for more than one worker."""
    for layer in model._flatten_layers(include_self=True):
        normalises = isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        averages = any(variable.aggregation not in (None, "none") for variable in layer._non_trainable_variables)
        if normalises or averages:
            raise InvalidInput(
                f"jit_compile cannot compile the layer {layer.name!r}, a {type(layer).__name__}, whose statistics are those of all "
                "workers' examples: use -s jit_compile=false, or workers=1."
            )
