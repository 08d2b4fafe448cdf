"""What Ray Tune makes trials' processes of; tests/integration/test_sweeps.py runs it whole."""

import contextlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from ray.tune.execution.class_cache import _ActorClassCache

from jobs.sweeps.tune import side_by_side
from jobs.worker_groups.tune_insides import trials_in_prepared_processes, without_secrets
from service.specs.train import TrainSpec

MakeSpec = Callable[..., TrainSpec]


class Trainable:
    pass


def environment_within(context: contextlib.AbstractContextManager[None]) -> Any:
    with context:
        return _ActorClassCache().get(Trainable)._default_options.get("runtime_env")


def test_trials_on_this_machine_run_in_the_processes_that_wait_for_them() -> None:
    # One with an environment of its own would be started anew, and import TensorFlow anew.
    assert not environment_within(trials_in_prepared_processes())
    assert environment_within(contextlib.nullcontext())


def test_the_keys_of_a_store_do_not_stand_in_the_clusters_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "0")
    assert "hidden" in str(environment_within(contextlib.nullcontext()))
    variables = environment_within(without_secrets())["env_vars"]
    assert variables["RAY_CHDIR_TO_TRIAL_DIR"] == "0"
    assert "hidden" not in str(variables)


@pytest.mark.parametrize(
    ("workers", "worker", "trials"),
    [
        (1, {"cpus": 2}, 4),
        (2, {"cpus": 1}, 4),
        (8, {"cpus": 0.5}, 2),
        (1, {"cpus": 1, "gpus": 1}, 2),
        (1, {"cpus": 1, "gpus": 0.5}, 4),
        (2, {"cpus": 1, "gpus": 1}, 1),
        (1, {"cpus": 1, "memory": "3GB"}, 3),
        (1, {"cpus": 9}, 0),
    ],
)
def test_so_many_trials_fit_as_processors_gpus_and_memory_allow(
    make_spec: MakeSpec, workers: int, worker: dict[str, object], trials: int
) -> None:
    spec = make_spec(workers=workers, worker=worker)
    assert side_by_side(spec, [{"CPU": 8.0, "GPU": 2.0, "memory": 10e9}]) == trials


WITHOUT_A_FOLDER = """
import os, tempfile
import ray
from ray import tune
from jobs.worker_groups.tune_insides import without_analysis

class Once(tune.Trainable):
    def step(self):
        return {"value": 1, "done": True}

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
home, files = tempfile.mkdtemp(), tempfile.mkdtemp()
os.chdir(home)
os.rmdir(home)
config = tune.TuneConfig(metric="value", mode="max", num_samples=2)
with without_analysis():
    tune.Tuner(Once, tune_config=config, run_config=tune.RunConfig(storage_path=files, verbose=0)).fit()
print("ended")
"""


@pytest.mark.slow
def test_tune_comes_to_its_end_where_the_drivers_folder_is_gone() -> None:
    """As on a cluster whose nodes lie on one machine: each deletes a job's folder to make it anew."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_A_FOLDER], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1:] == ["ended"], done.stderr
