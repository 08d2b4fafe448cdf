"""The names that service knows are those that jobs and Keras have."""

import inspect
from pathlib import Path

import keras
from keras.optimizers import schedules

from jobs.datasets import augmentation
from jobs.training.optimizers import SCHEDULES
from service.specs import choices as vocabulary


def classes(module: object, base: type) -> set[str]:
    return {name for name, kind in vars(module).items() if inspect.isclass(kind) and issubclass(kind, base) and kind is not base}


def test_optimizers() -> None:
    there = {name.lower() for name in classes(keras.optimizers, keras.optimizers.Optimizer)} - {"lossscaleoptimizer"}
    assert there == vocabulary.OPTIMIZERS


def test_schedules() -> None:
    assert set(SCHEDULES) == vocabulary.SCHEDULES
    assert classes(schedules, schedules.LearningRateSchedule) == vocabulary.KERAS_SCHEDULES


def test_callbacks() -> None:
    there = classes(keras.callbacks, keras.callbacks.Callback)
    assert there == vocabulary.CALLBACKS | set(vocabulary.REFUSED_CALLBACKS)


def test_image_changes() -> None:
    assert set(augmentation.KINDS) == vocabulary.AUGMENTATIONS


def test_the_vocabulary_imports_nothing() -> None:
    assert "import " not in Path(vocabulary.__file__).read_text().split('"""', 2)[2]
