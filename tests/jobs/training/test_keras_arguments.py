"""What the plan says of arguments is what Keras and the workers do with them."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.training.callbacks import make_callbacks
from jobs.training.optimizers import make_optimizer
from service.checks.arguments import check_arguments
from service.checks.keras_arguments import CALLBACK_ARGUMENTS, OPTIMIZER_ARGUMENTS, SCHEDULE_ARGUMENTS
from service.errors import InvalidInput
from service.specs.parts import Named
from service.specs.train import TrainSpec

MakeSpec = Callable[..., TrainSpec]
VALUES: tuple[Any, ...] = (True, -1, 0, 1, 2, 0.5, 1.5, "some", [1], [], None)
NEEDED: dict[str, Any] = {"boundaries": [3], "values": [0.1, 0.01], "filename": "a.csv", "directory": "a"}


def test_the_table_is_what_keras_takes() -> None:
    sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
    try:
        from refresh_arguments import TABLE, table
    finally:
        del sys.path[0]
    assert TABLE.read_text() == table(), "write it anew by `uv run just arguments`"


def changed(arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What must be given, alone and with each argument of each value in turn."""
    needed = {name: NEEDED.get(name, 0.5) for name, default in arguments.items() if default is ...}
    yield needed
    for name in arguments:
        for value in VALUES:
            yield {**needed, name: value}


def refuses(check: Callable[[TrainSpec], object], spec: TrainSpec) -> bool:
    try:
        check(spec)
    except InvalidInput as error:
        assert "\n" not in str(error)
        return True
    return False


def assert_the_plan_refuses_what_the_worker_does(
    spec: TrainSpec, key: str, entries: Iterator[Any], worker: Callable[[TrainSpec], object]
) -> None:
    first = True
    for entry in entries:
        asked = spec.model_copy(update={key: entry})
        planned = refuses(check_arguments, asked)
        assert planned or not refuses(worker, asked), entry
        # What must be given is enough.
        assert not (first and planned), entry
        first = False


@pytest.mark.parametrize("name", sorted(set(OPTIMIZER_ARGUMENTS) - {"multioptimizer"}))
def test_the_plan_refuses_the_arguments_of_an_optimizer_that_a_worker_refuses(make_spec: MakeSpec, name: str) -> None:
    # The spec itself refuses other rates.
    arguments = {key: value for key, value in OPTIMIZER_ARGUMENTS[name].items() if key != "learning_rate"}
    entries = (Named(name=name, **(given | {"use_ema": given.get("use_ema", True)})) for given in changed(arguments))
    assert_the_plan_refuses_what_the_worker_does(make_spec(), "optimizer", entries, lambda spec: make_optimizer(spec, 20))


@pytest.mark.parametrize("name", sorted(SCHEDULE_ARGUMENTS))
def test_so_it_is_for_schedules(make_spec: MakeSpec, name: str) -> None:
    rates = ({"name": name, **given} for given in changed(SCHEDULE_ARGUMENTS[name]))
    entries = (Named(name="sgd", learning_rate=rate) for rate in rates)  # type: ignore[call-arg]
    assert_the_plan_refuses_what_the_worker_does(make_spec(), "optimizer", entries, lambda spec: make_optimizer(spec, 20))


@pytest.mark.parametrize("name", sorted(set(CALLBACK_ARGUMENTS) - {"OrbaxCheckpoint"}))
def test_so_it_is_for_callbacks(make_spec: MakeSpec, name: str) -> None:
    entries = ((Named(name=name, **given),) for given in changed(CALLBACK_ARGUMENTS[name]))
    assert_the_plan_refuses_what_the_worker_does(make_spec(), "callbacks", entries, lambda spec: make_callbacks(spec, None))
