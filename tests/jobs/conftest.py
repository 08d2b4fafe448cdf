"""A spec, a replica and a training loop in this process, without Ray and without a store."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.specs.train import TrainSpec


@pytest.fixture
def make_spec() -> Callable[..., TrainSpec]:
    """Makes a small spec with the given keys."""

    def make(**keys: Any) -> TrainSpec:
        length = {} if "steps" in keys else {"epochs": 1}
        return TrainSpec.model_validate({"model": "dense", "dataset": "digits", "batch": 8, **length, **keys})

    return make


@pytest.fixture
def user_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a user's modules; what was imported from it is forgotten afterwards."""
    folder = tmp_path / "user"
    folder.mkdir()
    path, finders, modules = list(sys.path), list(sys.meta_path), set(sys.modules)
    yield folder
    sys.path[:], sys.meta_path[:] = path, finders
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def make_replica() -> Callable[..., Any]:
    """Makes the Replica of a spec and a model, seeded by the spec; in target space with these inputs as realisation batch."""
    import keras
    import tensorflow as tf

    from jobs.artifacts.model_file import set_optimizer
    from jobs.models.registry import model_inputs
    from jobs.target_space.space import Space, WeightSpace
    from jobs.target_space.target import TargetSpace
    from jobs.tasks.registry import task_for
    from jobs.training.optimizers import make_optimizer
    from jobs.training.replica import Replica
    from jobs.training.variables import draw_differently

    def make(
        spec: TrainSpec,
        build: Callable[[], Any],
        scale: float = 1.0,
        total_steps: int = 100,
        realisation: Any = None,
        weights: Any = None,
        extra: Any = None,
        feature: str = "x",
    ) -> Replica:
        keras.utils.set_random_seed(spec.seed)
        model = build()
        target = realisation is not None
        space: Space = TargetSpace(model, realisation, spec.space, spec.seed) if target else WeightSpace(model)
        optimizer = make_optimizer(spec, total_steps)
        optimizer.build(space.variables)
        space.begin()
        draw_differently(model, 0)
        set_optimizer(model, optimizer)

        def inputs(features: dict[str, Any]) -> Any:
            return model_inputs(model, features)

        return Replica(
            spec, tf.distribute.get_strategy(), model, optimizer, task_for(spec), {feature: scale}, inputs, space, weights, extra
        )

    return make
