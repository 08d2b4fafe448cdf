"""The constants at the head of each model's file say what its function takes and does: a plan goes by them alone.

What target space solves is compared in tests/jobs/target_space/test_target.py.
"""

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

import jobs.models
from jobs.vectorized.layers import stacked_forward
from service.errors import InvalidInput
from service.registry import models

IMAGES = (28, 28, 1)


def module_of(name: str) -> Any:
    return importlib.import_module(f"jobs.models.{name.replace('-', '_')}")


def test_each_file_with_a_build_function_declares_its_parameters() -> None:
    files = sorted(path for folder in jobs.models.__path__ for path in Path(folder).glob("[!_]*.py"))
    made = [path.stem.replace("_", "-") for path in files if "\ndef build(" in path.read_text()]
    assert made == list(models())


@pytest.mark.parametrize("name", models())
def test_the_parameters_and_their_defaults_are_those_of_the_function(name: str) -> None:
    taken = inspect.signature(module_of(name).build).parameters.values()
    assert {each.name: each.default for each in taken if each.kind is each.KEYWORD_ONLY} == models()[name].parameters


@pytest.mark.parametrize("name", models())
def test_a_model_that_answers_at_every_step_takes_that_parameter(name: str) -> None:
    taken = list(inspect.signature(module_of(name).build).parameters)
    assert taken[:3] == ["input_shape", "classes", "every_step"] if models()[name].every_step else "every_step" not in taken


@pytest.mark.parametrize("name", [name for name, model in models().items() if "start" in model.parameters])
def test_the_starts_are_those_that_the_function_takes(name: str) -> None:
    for start in models()[name].starts:
        module_of(name).build((5, 3), 2, units=4, start=start)
    with pytest.raises(InvalidInput, match=f"it must be {' or '.join(models()[name].starts)}"):
        module_of(name).build((5, 3), 2, units=4, start="another")


@pytest.mark.parametrize("name", models())
def test_what_has_a_form_for_several_members_is_declared_with_all_its_widths(name: str) -> None:
    model = models()[name]

    def stacked() -> bool:
        try:
            stacked_forward(module_of(name).build(IMAGES, 10))
        except InvalidInput:
            return False
        return True

    assert stacked() is bool(model.vectorized)
    if model.vectorized:
        narrow = module_of(name).build(IMAGES, 10, **{parameter: [3] for parameter in model.vectorized})
        assert {layer.units for layer in narrow.layers if hasattr(layer, "units")} == {3, 10}
