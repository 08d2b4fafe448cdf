"""Checks the arguments that a spec gives optimizers, schedules and callbacks, without TensorFlow."""

from collections.abc import Callable, Mapping
from typing import Any

from service.checks.keras_arguments import CALLBACK_ARGUMENTS, OPTIMIZER_ARGUMENTS, SCHEDULE_ARGUMENTS
from service.errors import InvalidInput
from service.recipes.validation import nearest
from service.specs.choices import canonical_optimizer
from service.specs.train import TrainSpec

_OF_EARLIER_TIMES = {
    "lr": "learning_rate",
    "decay": "weight_decay for the weights, or for the rate learning_rate={name: exponential, initial: …, final: …}",
    "clip_norm": "clipnorm, or global_clipnorm for the norm of all gradients",
    "clip_value": "clipvalue",
    "epsilon_decay": "min_delta",
}
"""Arguments that Keras took once, or that other libraries take, each with what says it today."""
_CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")

_Limit = tuple[str, Callable[[Any], bool]]
_ABOVE_0: _Limit = ("a number above 0", lambda value: value > 0)
_AT_LEAST_0: _Limit = ("a number of at least 0", lambda value: value >= 0)
_A_SHARE: _Limit = ("a number from 0 to 1", lambda value: 0 <= value <= 1)
_STEPS: _Limit = ("a whole number of at least 0", lambda value: isinstance(value, int) and value >= 0)
_LIMITS: dict[str, _Limit] = {
    **dict.fromkeys((*_CLIPS, "loss_scale_factor", "initial", "peak"), _ABOVE_0),
    **dict.fromkeys(("decay_steps", "first_decay_steps"), _ABOVE_0),
    **dict.fromkeys(("final", "start", "weight_decay", "initial_accumulator_value"), _AT_LEAST_0),
    **{f"{name}_regularization_strength": _AT_LEAST_0 for name in ("l1", "l2", "l2_shrinkage")},
    "learning_rate_power": ("a number of at most 0", lambda value: value <= 0),
    "gradient_accumulation_steps": ("a whole number of at least 2", lambda value: isinstance(value, int) and value >= 2),
    "ema_overwrite_frequency": ("a whole number of at least 1", lambda value: isinstance(value, int) and value >= 1),
    "ema_momentum": _A_SHARE,
    "rise": _A_SHARE,
    "warmup_steps": _STEPS,
    "warmup_target": _AT_LEAST_0,
    "baseline": ("a number", lambda value: True),
}
"""Numbers by the argument's name: what is expected, and whether one is that."""
_LIMITS_OF: dict[tuple[str, str], _Limit] = {
    ("sgd", "momentum"): _A_SHARE,
    ("lion", "beta_1"): ("a number above 0, at most 1", lambda value: 0 < value <= 1),
    ("exponential", "final"): _ABOVE_0,
    ("cosine", "decay_steps"): _STEPS,
    ("ReduceLROnPlateau", "factor"): ("a number above 0, below 1", lambda value: 0 < value < 1),
}
_LISTS = frozenset({"boundaries", "values"})
_TEXTS = frozenset({"filename", "directory"})
_FREE = frozenset({"verbose", "save_freq"})
"""Arguments of several kinds."""
_MODES = ("auto", "min", "max")


def check_arguments(spec: TrainSpec) -> None:
    """Raise InvalidInput for an argument that the worker would refuse, or that would do nothing."""
    name, given = canonical_optimizer(spec.optimizer.name), spec.optimizer_arguments
    _check(f"The optimizer {spec.optimizer.name!r}", "optimizer.", name, OPTIMIZER_ARGUMENTS[name], given)
    clips = [clip for clip in _CLIPS if given.get(clip) is not None]
    if len(clips) > 1:
        raise InvalidInput(f"The optimizer {spec.optimizer.name!r} takes one limit of its gradients, not {' and '.join(clips)}.")
    rate = given.get("learning_rate")
    if isinstance(rate, dict):
        _check_schedule(rate)
    for callback in spec.callbacks:
        if callback.name in CALLBACK_ARGUMENTS:
            _check_callback(callback.name, callback.arguments)


def _check_schedule(rate: Mapping[str, Any]) -> None:
    name, given = str(rate["name"]), {key: value for key, value in rate.items() if key != "name"}
    _check(f"The schedule {name!r}", "optimizer.learning_rate.", name, SCHEDULE_ARGUMENTS[name], given)
    boundaries, values = given.get("boundaries"), given.get("values")
    if isinstance(boundaries, list) and isinstance(values, list) and len(values) != len(boundaries) + 1:
        raise InvalidInput(
            f"The schedule {name!r} has {len(boundaries)} boundaries and {len(values)} values, but there is one more value than boundaries."
        )


def _check_callback(name: str, given: Mapping[str, Any]) -> None:
    if given.get("restore_best_weights"):
        raise InvalidInput(
            f"The callback {name} cannot restore the best weights, which a resumed run no longer has: use early_stopping.restore_best."
        )
    _check(f"The callback {name}", f"callbacks {name} ", name, CALLBACK_ARGUMENTS[name], given)
    if given.get("mode", "auto") not in _MODES:
        raise InvalidInput(f"The callback {name} has the mode {str(given['mode'])[:60]!r}: use {' or '.join(_MODES)}.")


def _check(what: str, path: str, kind: str, taken: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name not in taken:
            known = ", ".join(taken) or "no arguments"
            today = _OF_EARLIER_TIMES.get(name)
            hint = f"; use {today}" if today and today.partition(" ")[0].rstrip(",") in taken else nearest(name, taken)
            raise InvalidInput(f"{what} does not take {name[:80]!r}{hint}: it takes {known}.")
        if isinstance(value, dict) and name == "learning_rate":
            continue
        if expected := _expected(kind, name, taken[name], value):
            raise InvalidInput(f"{path}{name} is {_shown(value)}, but it must be {expected}.")
    missing = [name for name, default in taken.items() if default is ... and name not in given]
    if missing:
        raise InvalidInput(f"{what} needs {', '.join(missing)}.")


def _expected(kind: str, name: str, default: Any, value: Any) -> str | None:
    """What an argument must be, where the value is not that; an argument whose default is nothing may be nothing."""
    if (value is None and default is None) or name in _FREE:
        return None
    if name in _LISTS:
        numbers = isinstance(value, list) and bool(value) and all(_is_number(each) for each in value)
        return None if numbers else "a list of numbers"
    limit = _LIMITS_OF.get((kind, name)) or _LIMITS.get(name)
    if limit is None and isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if limit is None and isinstance(default, int | float):
        return None if _is_number(value) else "a number"
    if limit is None and (isinstance(default, str) or name in _TEXTS):
        return None if isinstance(value, str) and value else "a text"
    if limit is None:
        return None
    words, fits = limit
    return None if _is_number(value) and fits(value) else words


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return f"the text {value[:60]!r}" if isinstance(value, str) else str(value)[:60]
