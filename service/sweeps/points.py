"""The points of a search space: a grid is gone through, all else drawn from the sweep's seed, each point by its number alone."""

import contextlib
import itertools
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service.errors import InvalidInput
from service.recipes.documents import apply_override
from service.recipes.validation import validate
from service.specs.expressions import Expression, flat
from service.specs.sweep import Parameter, SweepSpec
from service.specs.train import TrainSpec

UNBOUNDED = 10**9
"""The count of points that are drawn until the budget is used up."""
MOST_POINTS = 10_000
"""A sweep without `trials` or `budget` has at most so many (assumed: a day of trials of 10 s each)."""
FIRST_POINTS = 100
"""Among so many there is one that makes a spec (assumed: or the space is wrong)."""

Params = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """`params` by key, expressions worked out; `base` names the spec that they change."""

    number: int
    base: str
    params: Params


class Points:
    """The points of a sweep by number, from 0."""

    def __init__(self, sweep: SweepSpec) -> None:
        self._sweep = sweep
        self._bases = {base.name: base for base in sweep.base}
        self._grids = sweep.grids
        self._drawn = {key: p for key, p in sweep.space.items() if key not in self._grids and p.expression is None}
        self._combinations = sweep.combinations

    @property
    def count(self) -> int:
        """The number of points in all; raise InvalidInput for more than anybody wants without a limit, and for none."""
        sweep = self._sweep
        within = None if sweep.trials is None else sweep.trials // sweep.seeds
        if within == 0:
            raise InvalidInput(
                f"trials: {sweep.trials} is less than one point takes, which is tried with {sweep.seeds} seeds: "
                f"give at least trials: {sweep.seeds}, or fewer seeds."
            )
        if not sweep.is_drawn:
            repeats = bool(self._drawn) and within is not None
            size = within if repeats and within is not None else min(self._combinations, within or self._combinations)
            if size > MOST_POINTS and sweep.budget is None and within is None:
                raise InvalidInput(
                    f"The search space has {self._combinations:,} grid points, more than {MOST_POINTS:,}: give a budget such as "
                    f"budget: 30m, trials: 100, or search: random with one of them."
                )
            return size
        if within is None and sweep.budget is None:
            what = "A space without a grid" if sweep.search == "grid" else f"search: {sweep.search}"
            raise InvalidInput(f"{what} draws points without end: give trials: 40, or a budget such as budget: 30m.")
        return within if within is not None else UNBOUNDED

    def point(self, number: int) -> Point:
        """The point of this number; the same at any time."""
        place = self._place(number)
        place, base = divmod(place, len(self._sweep.base))
        # The last grid of the space changes fastest, as in nested loops.
        chosen: Params = {}
        for key, values in reversed(self._grids.items()):
            place, index = divmod(place, len(values))
            chosen[key] = values[index]
        for key, parameter in self._drawn.items():
            chosen[key] = draw(parameter, random.Random(f"{self._sweep.seed}/{number}/{key}"))  # noqa: S311
        return self.complete(number, self._sweep.base[base].name, chosen)

    def complete(self, number: int, base: str, chosen: Mapping[str, Any]) -> Point:
        """A point with its expressions worked out; raise InvalidInput."""
        values = self._bases[base].values
        for key, each in chosen.items():
            values = apply_override(values, key.split("."), each)
        known = {**flat(values), **chosen}
        params: Params = {}

        def value(key: str) -> Any:
            parameter = self._sweep.space.get(key)
            if parameter is None or parameter.expression is None or key in params:
                return params.get(key, known.get(key))
            expression = Expression.parse(parameter.expression)
            needed = {name: found for name in expression.names if (found := value(name)) is not None}
            try:
                params[key] = expression.evaluate(needed)
            except ValueError as error:
                raise InvalidInput(f"The expression of space.{key} fails: {error}; correct it.") from error
            return params[key]

        ordered = {key: chosen[key] if key in chosen else value(key) for key in self._sweep.space}
        return Point(number, base, ordered)

    def spec(self, point: Point, seed: int = 0) -> TrainSpec:
        """The spec of a trial of the point: its base, changed by its params; `seed` counts from 0. Raise InvalidInput."""
        values = dict(self._bases[point.base].values)
        for key, value in point.params.items():
            values = apply_override(values, key.split("."), value)
        fewest, most = self._sweep.workers
        values["workers"] = fewest if fewest == most else f"{fewest}-{most}"
        if seed:
            values["seed"] = int(values.get("seed", 0)) + seed
        return validate(values)

    def first(self) -> Point:
        """The first point that makes a spec; raise InvalidInput with what is wrong with the very first where none does so soon."""
        for number in range(min(self.count, FIRST_POINTS)):
            with contextlib.suppress(InvalidInput):
                point = self.point(number)
                self.spec(point)
                return point
        point = self.point(0)
        self.spec(point)
        return point

    def corners(self) -> Iterator[Point]:
        """Points whose specs show what is wrong with a space: each listed value and each end of a range with the first of all others."""
        first = self.first()
        for base in self._sweep.base:
            yield self.complete(0, base.name, {key: first.params[key] for key in (*self._grids, *self._drawn)})
        for key, parameter in self._sweep.space.items():
            ends = parameter.grid or parameter.choice or parameter.uniform or parameter.loguniform or parameter.integers or ()
            for base, value in itertools.product(self._sweep.base, ends):
                chosen = {other: first.params[other] for other in (*self._grids, *self._drawn)}
                yield self.complete(0, base.name, {**chosen, key: value})

    def _place(self, number: int) -> int:
        """Where among the combinations a point is; nothing that may change when a sweep is resumed has a part in it."""
        size = self._combinations
        if self._sweep.order != "spread" or size == 1:
            return number % size
        # A step that has no factor in common with the size visits every place once.
        draws = random.Random(f"{self._sweep.seed}/grid")  # noqa: S311
        start, step = draws.randrange(size), draws.randrange(1, size)
        while math.gcd(step, size) != 1:
            step = step % (size - 1) + 1
        return (start + number * step) % size


def draw(parameter: Parameter, source: random.Random) -> Any:
    """A value of one parameter; a grid is drawn from like a choice."""
    if parameter.uniform is not None:
        return source.uniform(*parameter.uniform)
    if parameter.loguniform is not None:
        low, high = parameter.loguniform
        return math.exp(source.uniform(math.log(low), math.log(high)))
    if parameter.integers is not None:
        return source.randint(*parameter.integers)
    return source.choice(parameter.choice or parameter.grid or ())
