"""Which trials of a sweep train together: small models of the same shapes, whose specs differ in seed, λ and the optimizer's numbers.

Many small trials leave a processor idle between their steps, and each compiles the same step anew. All that decides is in the specs, so
that a plan can say it before anything starts.
"""

import json
from collections.abc import Sequence
from typing import Any

from service.registry import model_named
from service.specs.choices import canonical_optimizer
from service.specs.generated import suggested_parameters
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec

OPTIMIZERS = frozenset({"sgd", "rmsprop", "adam", "adamw", "adagrad", "adadelta", "adamax", "lion"})
"""Those whose step changes each weight by its own gradient alone."""
MOST_UNITS = 128
"""Of a layer (assumed: a wider one fills a core by itself)."""
MOST_UNITS_OF_TARGETS = 32
"""Of a layer in target space, whose solves leave less idle. Measured (EPYC, one thread, 16 members): a step of 23 units over 70
steps 1.3 to 1.7 times as fast as apart, one of 63 over 110 steps 0.9 times."""
MOST_MEMBERS = 32
"""Of a group (assumed: the gain of further ones is small, and so many lose their steps since a checkpoint with one process)."""

_OWN_NUMBERS = ("learning_rate", "weight_decay", "epsilon", "clipnorm", "global_clipnorm", "clipvalue")
"""Arguments of an optimizer that each member may have its own numbers for."""
_OWN_OF_SPACE = ("ridge", "target_std")
"""Keys of target space that each member may have its own numbers for."""
_REFUSED = ("use_ema", "loss_scale_factor", "gradient_accumulation_steps")
"""Arguments that make a step look at more than the weights and gradients of that step."""


def gathers(sweep: SweepSpec) -> bool:
    """Whether trials of the sweep may train together at all: each runs to its own end, on one worker."""
    return sweep.together == "auto" and sweep.scheduler.name == "none" and sweep.workers == (1, 1)


def group_key(spec: TrainSpec) -> str | None:
    """Equal for trials that may train together; None for one that trains apart."""
    if not (_is_plain(spec) and _is_small(spec) and _is_elementwise(spec)):
        return None
    # All get the first one's model: an expression in it may follow the seed or another number that each has its own of.
    kept = {key: value for key, value in spec.document().items() if key not in ("seed", "optimizer", "space", "tags")}
    kept |= {"model_params": spec.model_arguments}
    space = _masked_but(spec.space.model_dump(), _OWN_OF_SPACE) if spec.space.name != "weight" else {}
    arguments = _masked_but(spec.optimizer_arguments, _OWN_NUMBERS)
    return json.dumps([kept, space, canonical_optimizer(spec.optimizer.name), arguments], sort_keys=True)


def _masked_but(values: dict[str, Any], own: Sequence[str]) -> dict[str, Any]:
    """The values, with the numbers of those that each member may have its own for left out."""
    return {name: _masked(value) if name in own else value for name, value in values.items()}


def _is_plain(spec: TrainSpec) -> bool:
    """Whether a step is the model's forward and backward pass and the optimizer's, in float32, on data in memory."""
    extras = (spec.callbacks, spec.augment, spec.freeze, spec.init_from, spec.class_weight, spec.sample_weight, spec.metrics)
    return (
        not any(extras)
        and spec.input != "stream"
        and spec.precision == "float32"
        and spec.workers == (1, 1)
        and spec.worker.gpus in (0, 1)
    )


def _is_small(spec: TrainSpec) -> bool:
    """Whether the model has a form for several members at once, and layers of at most so many units."""
    model = model_named(spec.model)
    if model is None or not model.vectorized or (spec.space.name == "target" and not model.solvable):
        return False
    most = MOST_UNITS if spec.space.name == "weight" else MOST_UNITS_OF_TARGETS
    given = {**model.parameters, **suggested_parameters(spec.dataset, spec.dataset_params), **spec.model_arguments}
    listed = [given[name] if isinstance(given[name], list | tuple) else [given[name]] for name in model.vectorized]
    return all(isinstance(width, int) and width <= most for widths in listed for width in widths)


def _is_elementwise(spec: TrainSpec) -> bool:
    """Whether the optimizer is one of those, without what looks beyond a step."""
    arguments = spec.optimizer_arguments
    return canonical_optimizer(spec.optimizer.name) in OPTIMIZERS and not any(arguments.get(name) for name in _REFUSED)


def _masked(value: Any) -> Any:
    """The value with every number in it left out, but for a zero, which turns things off."""
    if isinstance(value, dict):
        return {name: _masked(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(each) for each in value]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) and value else value
