"""Keras optimizers and learning rate schedules by name, and the precision of the computation."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras.optimizers import schedules

from service.errors import InvalidInput
from service.specs.choices import canonical_optimizer
from service.specs.parts import Named
from service.specs.train import TrainSpec

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
_NO_OPTIMIZERS = {"Optimizer", "LossScaleOptimizer"}


def set_precision(spec: TrainSpec) -> None:
    """Set Keras' policy for the layers that are made from now on; variables stay float32."""
    keras.mixed_precision.set_dtype_policy(_POLICIES[spec.precision])


def make_optimizer(spec: TrainSpec, total_steps: int) -> keras.optimizers.Optimizer:
    """The spec's optimizer; schedules end at `total_steps` unless they say otherwise. Raise InvalidInput."""
    known = {
        name.lower(): kind
        for name, kind in vars(keras.optimizers).items()
        if inspect.isclass(kind) and issubclass(kind, keras.optimizers.Optimizer) and name not in _NO_OPTIMIZERS
    }
    named = spec.optimizer
    kind = known.get(canonical_optimizer(named.name))
    if kind is None:
        raise InvalidInput(f"There is no optimizer {named.name[:60]!r}: use {', '.join(sorted(known))}.")
    arguments = spec.optimizer_arguments
    rate = arguments.get("learning_rate")
    if isinstance(rate, Mapping):
        arguments["learning_rate"] = make_schedule(rate, total_steps)
    elif rate is not None and (isinstance(rate, bool) or not isinstance(rate, (int, float)) or rate <= 0):
        raise InvalidInput(
            f"optimizer.learning_rate is {str(rate)[:60]}, but it must be a number above 0 or a schedule such as {{name: cosine, initial: 0.002}}."
        )
    optimizer = _make(kind, arguments, f"The optimizer {named.name!r}")
    return keras.optimizers.LossScaleOptimizer(optimizer) if spec.precision == "float16" else optimizer


def make_schedule(values: Mapping[str, Any], total_steps: int) -> schedules.LearningRateSchedule:
    """A schedule: `cosine`, `linear`, `one-cycle`, `exponential`, `piecewise`, or any of Keras by its class's name."""
    try:
        named = Named.model_validate(dict(values))
    except ValueError:
        raise InvalidInput("optimizer.learning_rate is a mapping without a name: write {name: cosine, initial: 0.002}.") from None
    own = SCHEDULES.get(named.name)
    what = f"The schedule {named.name!r}"
    if own is not None:
        return _make(own, named.arguments, what, {"total_steps": total_steps})
    kind = getattr(schedules, named.name, None)
    if (
        not inspect.isclass(kind)
        or not issubclass(kind, schedules.LearningRateSchedule)
        or kind is schedules.LearningRateSchedule
    ):
        raise InvalidInput(
            f"There is no learning rate schedule {named.name[:60]!r}: use {', '.join(SCHEDULES)}, or a class of keras.optimizers.schedules."
        )
    return _make(kind, named.arguments, what)


def _make(kind: Callable[..., Any], arguments: Mapping[str, Any], what: str, given: Mapping[str, Any] | None = None) -> Any:
    """Call `kind` with a user's arguments and `given`, which is not theirs to set; raise InvalidInput."""
    given = given or {}
    parameters = inspect.signature(kind).parameters
    named = [
        name
        for name, p in parameters.items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name not in {"self", "name", *given}
    ]
    unknown = sorted(set(arguments) - set(named))
    if unknown:
        raise InvalidInput(f"{what} does not take {unknown[0]!r}: it takes {', '.join(named)}.")
    missing = [name for name in named if parameters[name].default is inspect.Parameter.empty and name not in arguments]
    if missing:
        raise InvalidInput(f"{what} needs {', '.join(missing)}.")
    try:
        if given:
            return kind(**arguments, **given)
        return kind(**{name: _as(parameters[name].default, value) for name, value in arguments.items()})
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{what} was refused by Keras: {str(error).splitlines()[0][:300]}.") from error


def _as(default: Any, value: Any) -> Any:
    """A whole number as a float where the default is one: Keras refuses SGD's momentum of 0."""
    return float(value) if isinstance(default, float) and type(value) is int else value


def _check_rate(name: str, value: Any, zero: bool = False) -> None:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and (value > 0 or (zero and value == 0))
    if not fits:
        wanted = "a number of at least 0" if zero else "a number above 0"
        raise InvalidInput(f"optimizer.learning_rate.{name} is {str(value)[:60]}, but it must be {wanted}.")


def _check_steps(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidInput(
            f"optimizer.learning_rate.{name} is {str(value)[:60]}, but it must be a whole number of steps of at least 0."
        )


def cosine(
    initial: float, total_steps: int, warmup_steps: int = 0, final: float = 0.0, decay_steps: int | None = None
) -> schedules.LearningRateSchedule:
    """Up to `initial` in `warmup_steps`, then down along half a cosine to `final` (Loshchilov and Hutter 2017)."""
    _check_rate("initial", initial)
    _check_rate("final", final, zero=True)
    _check_steps("warmup_steps", warmup_steps)
    _check_steps("decay_steps", decay_steps or 0)
    decay = max(1, (decay_steps or total_steps) - warmup_steps)
    if warmup_steps:
        return schedules.CosineDecay(0.0, decay, alpha=final / initial, warmup_target=initial, warmup_steps=warmup_steps)
    return schedules.CosineDecay(initial, decay, alpha=final / initial)


def linear(initial: float, total_steps: int, warmup_steps: int = 0, final: float = 0.0) -> schedules.LearningRateSchedule:
    """Up to `initial` in `warmup_steps`, then straight down to `final`."""
    _check_rate("initial", initial)
    _check_rate("final", final, zero=True)
    _check_steps("warmup_steps", warmup_steps)
    return _Triangle(initial, warmup_steps, total_steps, 0.0, final)


def one_cycle(
    peak: float, total_steps: int, rise: float = 0.3, start: float | None = None, final: float = 0.0
) -> schedules.LearningRateSchedule:
    """From `start` (a 25th of the peak) up to `peak` in the share `rise` of all steps, then down (Smith and Topin 2018)."""
    _check_rate("peak", peak)
    _check_rate("start", peak if start is None else start, zero=True)
    _check_rate("final", final, zero=True)
    if isinstance(rise, bool) or not isinstance(rise, (int, float)) or not 0 <= rise <= 1:
        raise InvalidInput(f"optimizer.learning_rate.rise is {str(rise)[:60]}, but it must be a share from 0 to 1.")
    return _Triangle(peak, int(rise * total_steps), total_steps, peak / 25 if start is None else start, final)


def exponential(initial: float, total_steps: int, final: float) -> schedules.LearningRateSchedule:
    """From `initial` to `final` by the same factor each step."""
    _check_rate("initial", initial)
    _check_rate("final", final)
    return schedules.ExponentialDecay(initial, total_steps, final / initial)


def piecewise(boundaries: list[int], values: list[float], total_steps: int) -> schedules.LearningRateSchedule:
    """`values[i]` until step `boundaries[i]`, the last value from then on."""
    return schedules.PiecewiseConstantDecay(boundaries, values)


class _Triangle(schedules.LearningRateSchedule):
    def __init__(self, peak: float, rise: int, total: int, start: float, final: float) -> None:
        super().__init__()
        self._values = (float(peak), int(rise), int(total), float(start), float(final))

    def __call__(self, step: Any) -> Any:
        peak, rise, total, start, final = self._values
        now = keras.ops.cast(step, "float32")
        up = start + (peak - start) * now / max(1, rise)
        down = peak + (final - peak) * (now - rise) / max(1, total - rise)
        return keras.ops.where(now < rise, up, keras.ops.where(now < total, down, final))

    def get_config(self) -> dict[str, Any]:
        return dict(zip(("peak", "rise", "total", "start", "final"), self._values, strict=True))


SCHEDULES: dict[str, Callable[..., schedules.LearningRateSchedule]] = {
    "cosine": cosine,
    "linear": linear,
    "one-cycle": one_cycle,
    "exponential": exponential,
    "piecewise": piecewise,
}
