"""What a run says of a user's model before its first step: parts of it that are not used here, or that the training would suffer from.

Each remark is a sentence of its own: what the model has, what happens to it here, and what to do. They are events of the run, shown by the
command, `runs show` and the report.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from tensorflow.core.framework.graph_pb2 import GraphDef

from jobs.artifacts.model_graph import FEATURES
from jobs.training.own_scaling import first_scalings
from service.datasets import Feature
from service.specs.train import TrainSpec

_NOT_CALLED = (
    "train_step",
    "test_step",
    "predict_step",
    "compute_loss",
    "compute_metrics",
    "fit",
    "evaluate",
    "train_on_batch",
    "test_on_batch",
    "make_train_function",
    "make_test_function",
    "metrics",
)
"""Of a Keras model; what trains here calls none of them."""
_PASSED = ("Identity", "Cast", "Reshape", "Squeeze", "ExpandDims", "StopGradient", "Transpose")
"""Operations that leave values as they are."""
_BOUNDS = {"Softmax": (0.0, 1.0), "Sigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0), "Softsign": (-1.0, 1.0), "Relu6": (0.0, 6.0)}
"""Operations that keep values between two bounds; a logit has none."""
_AT_LEAST_0 = ("Relu", "Softplus")
FLAT, FAR = 0.1, 10.0
"""A scaling that leaves less than FLAT of 0 to 1, or shifts it by more than FAR times its width, is meant for stored values (assumed: that of
0 to 255 leaves a hundredth, one of 0 to 1 makes it wider)."""


@dataclass(frozen=True)
class Built:
    """A model and what is known of it before the first step."""

    model: keras.Model
    spec: TrainSpec
    every_step: bool
    """Whether the task asks for a bit at each step of an example."""
    features: Sequence[Feature]
    classes: int
    graph: Callable[[], bytes]
    """Makes the model's graph, a GraphDef."""
    zeros: NDArray[np.float32] | None = None
    """What the model gave for two examples of zeros."""


def remarks(built: Built) -> list[str]:
    """Return a sentence for each remark, none for most models. The model draws, changes and computes nothing."""
    if built.spec.user_module is None:
        return []
    return [sentence for look in _LOOKS for sentence in look(built)]


def _own_methods(built: Built) -> Iterator[str]:
    """Methods of a training loop that are the user's."""
    own = [name for name in _NOT_CALLED if _is_own(built.model, name)]
    if own:
        yield (
            f"The model {built.spec.model!r} has its own {_listed(own)} ({type(built.model).__name__}), not used here: what is trained is "
            f"the loss of the task {built.spec.task!r}, step by step; add what else is to be minimised by self.add_loss(…) in the model's call."
        )


def _is_own(model: keras.Model, name: str) -> bool:
    if name in vars(model):
        return True
    owner = next((kind for kind in type(model).__mro__ if name in vars(kind)), keras.Model)
    return not owner.__module__.startswith("keras.")


def _own_compile(built: Built) -> Iterator[str]:
    """What a model was compiled with."""
    if not getattr(built.model, "compiled", False):
        return
    config = built.model.get_compile_config() or {}
    given = [f"the {name} {_name(config[name])}" for name in ("optimizer", "loss") if config.get(name) is not None]
    given += [name for name in ("loss_weights", "metrics", "weighted_metrics") if config.get(name)]
    given += [f"{name}={config[name]}" for name in ("run_eagerly", "jit_compile") if config.get(name) is True]
    yield (
        f"The model {built.spec.model!r} was compiled with {_listed(given) or 'its own settings'}, not used here: the optimizer is the "
        f"spec's {built.spec.optimizer.name}, the loss that of the task {built.spec.task!r}; set them in the spec."
    )


def _name(value: Any) -> str:
    """Of a loss or an optimizer, as Keras writes it in a configuration."""
    if isinstance(value, dict) and "class_name" in value:
        config = value.get("config")
        return str(config if value["class_name"] == "function" and isinstance(config, str) else value["class_name"])
    return str(value)[:60]


def _last_activation(built: Built) -> Iterator[str]:
    """A last activation, in whatever form it is written; logits have none. Not a log_softmax: its softmax is the one before it."""
    kind, place = _last_operation(built)
    if kind == "" and built.zeros is not None and _are_probabilities(built.zeros):
        kind = "Softmax"
    where = f" (layer {place!r})" if place else ""
    model = f"The model {built.spec.model!r} ends with a {_WORDS.get(kind, kind.lower())}{where}"
    remedy = "leave the last activation out"
    if kind in _BOUNDS:
        low, high = _BOUNDS[kind]
        if built.every_step:
            always = "and every bit is read as a 1" if low == 0 else "and no bit can be sure"
            yield f"{model}, but its outputs are taken as logits, above 0 for the bit 1: they stay between {low:g} and {high:g}, {always}; {remedy}."
            return
        again = "get a softmax once more" if kind == "Softmax" else "get a softmax"
        floor = math.log1p((built.classes - 1) * math.exp(low - high))
        least = "" if built.spec.label_smoothing else f" and the loss cannot fall below {floor:.4f}"
        yield (
            f"{model}, but its outputs are taken as logits and {again}: it learns slowly, its probabilities are too even{least}; "
            f"{remedy}."
        )
    elif kind in _AT_LEAST_0:
        yield f"{model}, but its outputs are taken as logits: none can be below 0, and a class whose unit is off learns nothing; {remedy}."


_WORDS = {"Relu": "relu", "Relu6": "relu6"}


def _last_operation(built: Built) -> tuple[str, str]:
    """The kind of the last operation that changes values, and the layer in which it is, as far as they are known; else empty texts."""
    try:
        graph = GraphDef.FromString(built.graph())
    except Exception:
        # The user's code may fail when it is traced so; the outputs for zeros still say something.
        return "", ""
    nodes = {node.name: node for node in graph.node}
    # What a traced function returns is named so.
    node = nodes.get("Identity")
    while node is not None and node.op in _PASSED and node.input:
        node = nodes.get(node.input[0].partition(":")[0].lstrip("^"))
    if node is None:
        return "", ""
    if node.op == "RealDiv" and _is_own_sum(nodes, *node.input[:2]):
        return "Softmax", _layer_of(built.model, node.name)
    known = node.op in _BOUNDS or node.op in _AT_LEAST_0
    return (node.op, _layer_of(built.model, node.name)) if known else ("", "")


def _is_own_sum(nodes: dict[str, Any], value: str, divisor: str) -> bool:
    """Whether one value is the sum of the other: a softmax by hand."""
    node = nodes.get(divisor.partition(":")[0])
    return node is not None and node.op == "Sum" and node.input[0].partition(":")[0] == value.partition(":")[0]


def _layer_of(model: keras.Model, operation: str) -> str:
    names = {layer.name for layer in model._flatten_layers(include_self=False)}
    # Traced once more, a layer's operations are named with a number after its name.
    parts = [name for part in reversed(operation.split("/")) for name in (part, part.rpartition("_")[0])]
    return next((name for name in parts if name in names), "")


def _are_probabilities(outputs: NDArray[np.float32]) -> bool:
    """Whether each row lies in 0 to 1 and sums to 1. Logits of zeros are zeros, or whatever biases make of them."""
    if outputs.shape[-1] < 2 or not np.isfinite(outputs).all():
        return False
    return bool((outputs >= 0).all() and (outputs <= 1).all() and np.allclose(outputs.sum(axis=-1), 1, atol=2e-3))


def _own_losses(built: Built) -> Iterator[str]:
    """Terms of the loss that the model adds by itself, which are minimised but not part of the losses that a run shows."""
    layers = list(built.model._flatten_layers(include_self=True))
    # Left by the call for two examples of zeros; to trace the model clears them.
    adding = any(getattr(layer, "_losses", None) for layer in layers)
    regularised = any(variable.regularizer is not None for variable in built.model.trainable_variables)
    terms = ["add_loss or an activity_regularizer"] * adding + ["regularizers of its weights"] * regularised
    if terms:
        yield (
            f"The model {built.spec.model!r} adds to the loss by {_listed(terms)}: that is minimised too, but the losses that a run shows "
            "are the task's alone, where Keras' fit tells the sum."
        )


def _own_scaling(built: Built) -> Iterator[str]:
    """A model that begins with a scaling of stored values, such as Rescaling(1/255), and gets them divided already."""
    features = {feature.name: feature for feature in built.features}
    try:
        found = first_scalings(built.graph(), {name: f"{FEATURES}/{name}" for name in features})
    except Exception:
        # As above: for a model that cannot be traced there is no remark.
        return
    for name, scalings in found.items():
        feature = features[name]
        twice = [each for each in scalings if abs(each.factor) < FLAT or abs(each.offset) > FAR * abs(each.factor)]
        if feature.scale == 1.0 or not feature.divided or not twice:
            continue
        low, high = sorted((twice[0].offset, twice[0].offset + twice[0].factor))
        layer = _layer_of(built.model, twice[0].scaling)
        yield (
            f"The model {built.spec.model!r} begins with a scaling of its own{f' (layer {layer!r})' if layer else ''}, but gets {name} as 0 to 1 "
            f"already: scaled twice it lies between {low:.4g} and {high:.4g}, and little is learned; use -s scale=false, which hands over the "
            f"stored 0 to {feature.scale:g}, or leave the scaling out."
        )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


_LOOKS: tuple[Callable[[Built], Iterator[str]], ...] = (_own_methods, _own_compile, _own_losses, _own_scaling, _last_activation)
