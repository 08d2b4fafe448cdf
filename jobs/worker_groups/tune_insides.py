"""Ray Tune as a sweep needs it, where that leans on Tune's insides."""

import contextlib
import functools
import importlib
from collections.abc import Iterator
from types import SimpleNamespace

import ray
from ray.train._internal.session import _TrainingResult as TrainingResult
from ray.tune.execution import class_cache

from jobs.worker_groups.patched import patched

__all__ = ["TrainingResult", "trials_in_prepared_processes", "without_analysis", "without_secrets"]


@contextlib.contextmanager
def trials_in_prepared_processes() -> Iterator[None]:
    """Within it, Ray Tune takes the workers that wait already: it would give each trial's process an environment of its own."""
    remote = functools.cache(ray.remote)
    with patched(class_cache._ActorClassCache, "get", lambda self, trainable: remote(trainable)):
        yield


@contextlib.contextmanager
def without_secrets() -> Iterator[None]:
    """Tune would show the keys of an S3 store to all who may look at the cluster; its processes have them from their nodes."""
    shown = {name for name in class_cache.ENV_VARS_TO_PROPAGATE if not name.startswith("AWS_")}
    with patched(class_cache, "ENV_VARS_TO_PROPAGATE", shown):
        yield


@contextlib.contextmanager
def without_analysis() -> Iterator[None]:
    """Tune would end an experiment by reading all that its trials reported, by a path from the current folder.

    The store has it all, and that folder may be gone: nodes that lie on one machine have one folder for a job's files, and each
    deletes it to make it anew.
    """
    # `ray.tune.tune` by attributes is whatever the package chose to call so.
    module = importlib.import_module("ray.tune.tune")
    with patched(module, "ExperimentAnalysis", lambda *_, **__: SimpleNamespace(trials=[])):
        yield
