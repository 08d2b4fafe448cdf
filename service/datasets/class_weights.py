"""Weights of classes in a spec: `balanced`, or numbers by the classes' names."""

from collections.abc import Mapping, Sequence
from typing import Any

from service.datasets.manifest import Manifest
from service.errors import InvalidInput
from service.recipes.validation import nearest
from service.specs.generated import is_bits_task
from service.specs.train import TrainSpec


def number_of_class(name: str, classes: Sequence[str]) -> int | None:
    """The class of that name, else of that number from 0; None where there is none."""
    if name in classes:
        return list(classes).index(name)
    return int(name) if name.isascii() and name.isdigit() and int(name) < len(classes) else None


def check_weights_of(spec: TrainSpec, dataset: Manifest) -> None:
    """Raise InvalidInput for weights of classes, or a column of weights, that the dataset or the task cannot have."""
    given = [name for name in ("class_weight", "sample_weight") if getattr(spec, name) is not None]
    if given and is_bits_task(spec.task):
        raise InvalidInput(
            f"{given[0]} weighs examples that have one label each, but the task {spec.task!r} has one at each step: leave it out."
        )
    if isinstance(spec.class_weight, Mapping):
        _check_classes(spec.class_weight, dataset)
    if spec.sample_weight is not None:
        _check_column(spec.sample_weight, dataset)


def _check_classes(weights: Mapping[str, Any], dataset: Manifest) -> None:
    numbers: dict[int, str] = {}
    for name in weights:
        number = number_of_class(name, dataset.classes)
        if number is None:
            shown = ", ".join(dataset.classes[:10]) + (", …" if len(dataset.classes) > 10 else "")
            raise InvalidInput(
                f"class_weight names the class {name[:60]!r}{nearest(name, dataset.classes)}, but {dataset.name} has {shown}: use these names."
            )
        if number in numbers:
            raise InvalidInput(
                f"class_weight gives the class {dataset.classes[number]!r} twice, as {numbers[number]} and {name}."
            )
        numbers[number] = name


def _check_column(name: str, dataset: Manifest) -> None:
    found = next((feature for feature in dataset.features if feature.name == name), None)
    known = ", ".join(feature.name for feature in dataset.features)
    if found is None:
        raise InvalidInput(
            f"sample_weight is {name[:60]!r}{nearest(name, known.split(', '))}, but {dataset.name} has the features {known}: "
            "import it with one number for each example under that name."
        )
    if found.shape not in ((), (1,)):
        raise InvalidInput(
            f"sample_weight is {name!r}, which has the shape {found.shape}, but it must be one number for each example."
        )
    if len(dataset.features) == 1:
        raise InvalidInput(f"sample_weight is {name!r}, the only feature of {dataset.name}: there is nothing left to learn from.")
