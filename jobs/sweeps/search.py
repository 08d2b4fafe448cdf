"""Which point a sweep tries next: of a grid, drawn, or by what was found so far. Nothing here knows of Ray."""

import statistics
from typing import Any

import numpy as np

from service.specs.sweep import Parameter, SweepSpec
from service.sweeps.points import Point, Points


class Proposer:
    """Proposes points one after another: of a grid, drawn, or by Optuna's TPE from the results so far."""

    def __init__(self, sweep: SweepSpec) -> None:
        self._sweep = sweep
        self._points = Points(sweep)
        self.proposed = 0
        """How many points were, by earlier drivers too."""
        self._study = _Study(sweep) if sweep.search == "tpe" else None

    def known(self, point: Point) -> None:
        """A point that an earlier driver proposed."""
        self.proposed = max(self.proposed, point.number + 1)

    def propose(self) -> Point | None:
        """The next point, or None after the last."""
        if self.proposed >= self._points.count:
            return None
        number = self.proposed
        self.proposed += 1
        if self._study is None:
            return self._points.point(number)
        base, chosen = self._study.ask(number)
        return self._points.complete(number, base, chosen)

    def tell(self, point: Point, values: list[float]) -> None:
        """The metric of a point's trials."""
        if self._study is not None and values:
            self._study.tell(point, statistics.fmean(values))


class _Study:
    """Optuna's TPE (Bergstra et al. 2011, section 4) over a sweep's bases and the parameters that are no expressions."""

    def __init__(self, sweep: SweepSpec) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._bases = tuple(base.name for base in sweep.base)
        self._space = {key: parameter for key, parameter in sweep.space.items() if parameter.expression is None}
        self._distributions = {
            **{key: _distribution(parameter) for key, parameter in self._space.items()},
            **({BASE: optuna.distributions.CategoricalDistribution(self._bases)} if len(self._bases) > 1 else {}),
        }
        direction = optuna.study.StudyDirection.MAXIMIZE if sweep.mode == "max" else optuna.study.StudyDirection.MINIMIZE
        self._study = optuna.create_study(direction=direction, sampler=optuna.samplers.TPESampler(seed=sweep.seed))
        self._seed = sweep.seed
        self._asked = False

    def ask(self, number: int) -> tuple[str, dict[str, Any]]:
        """A base's name and a value for each parameter, for the point of this number."""
        if number and not self._asked:
            # An earlier driver drew those before: with its seed the same ones would be drawn again.
            import optuna

            seed = int(np.random.SeedSequence((self._seed, number)).generate_state(1)[0])
            self._study.sampler = optuna.samplers.TPESampler(seed=seed)
        self._asked = True
        trial = self._study.ask(self._distributions)
        chosen = {
            key: _listed(parameter)[trial.params[key]] if _listed(parameter) else trial.params[key]
            for key, parameter in self._space.items()
        }
        return trial.params.get(BASE, self._bases[0]), chosen

    def tell(self, point: Point, value: float) -> None:
        """A result; of one that was asked for by an earlier driver too."""
        import optuna

        params = {key: _listed(p).index(point.params[key]) if _listed(p) else point.params[key] for key, p in self._space.items()}
        if len(self._bases) > 1:
            params[BASE] = point.base
        self._study.add_trial(optuna.trial.create_trial(params=params, distributions=self._distributions, value=value))


BASE = "base"


def _listed(parameter: Parameter) -> tuple[Any, ...]:
    return parameter.grid or parameter.choice or ()


def _distribution(parameter: Parameter) -> Any:
    """Listed values are known to Optuna by their index: it takes no lists and mappings."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.uniform is not None:
        return FloatDistribution(*parameter.uniform)
    if parameter.loguniform is not None:
        return FloatDistribution(*parameter.loguniform, log=True)
    if parameter.integers is not None:
        return IntDistribution(*parameter.integers)
    return CategoricalDistribution(tuple(range(len(_listed(parameter)))))
