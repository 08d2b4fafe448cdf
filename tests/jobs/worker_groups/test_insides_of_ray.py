"""What is put in the place of Ray's insides is there, and takes what it took: another Ray fails here, not in a run."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import ray._private.node
import ray._private.parameter
import ray._private.utils
from ray._private.state import GlobalState
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.dashboard.modules.job.common import JobInfoStorageClient
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.job_config import JobConfig
from ray.train.v2._internal.execution.controller.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import state, worker_group
from ray.train.v2._internal.execution.worker_group.placement_group_handle import DefaultPlacementGroupHandle
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.tune.execution import class_cache

from jobs.worker_groups.patched import patched


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (ray._private.parameter.RayParams.__init__, {"no_monitor", "include_log_monitor"}),
        (ray._private.node.Node.start_api_server, {"self"}),
        (ray._private.utils.set_sigterm_handler, {"sigterm_handler"}),
        (JobConfig._serialize, {"self"}),
        (class_cache._ActorClassCache.get, {"self", "trainable_cls"}),
        (state._shutdown_sync_actor, {"sync_actor"}),
        (worker_group.WorkerGroup._get_worker_runtime_env, {"custom_runtime_env"}),
        (worker_group.WorkerGroup._init_train_context_on_workers, {"self", "workers", "sync_actor"}),
        (worker_group.WorkerGroup._decorate_worker_log_file_paths, {"workers"}),
        (worker_group.WorkerGroup._create_placement_group, {"self", "scaling_config", "worker_group_context"}),
        (DefaultPlacementGroupHandle.__init__, {"self", "pg"}),
        (TrainController.get_result, {"self"}),
        (TrainController.run, {"self"}),
        (FixedScalingPolicy.after_controller_start, {"self", "train_run_context"}),
        (FixedScalingPolicy._maybe_send_resource_request, {"self"}),
        (DataParallelTrainer._initialize_and_run_controller, {"self", "train_run_context"}),
        (DataParallelTrainer._create_default_callbacks, {"self"}),
        (GlobalState.get_draining_nodes, {"self"}),
        (GlobalState.available_resources_per_node, {"self"}),
        (GlobalState.total_resources_per_node, {"self"}),
        (JobInfoStorageClient.get_status, {"self", "job_id"}),
        (ExecutionCallback.on_execution_step, {"self", "executor"}),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_a_function_of_rays_takes_what_it_took(function: Callable[..., Any], parameters: set[str]) -> None:
    there = inspect.signature(function).parameters
    taken = parameters if any(each.kind is each.VAR_KEYWORD for each in there.values()) else parameters & set(there)
    assert taken == parameters


def test_the_values_that_are_replaced_are_there() -> None:
    assert "AWS_SECRET_ACCESS_KEY" in class_cache.ENV_VARS_TO_PROPAGATE
    assert inspect.isclass(worker_group.SynchronizationActor) or hasattr(worker_group.SynchronizationActor, "remote")
    assert hasattr(JobConfig(), "_py_driver_sys_path")
    assert inspect.isclass(GcsClient)
    assert TrainController.worker_group_cls is worker_group.WorkerGroup
    assert inspect.isclass(importlib.import_module("ray.tune.tune").ExperimentAnalysis)


def test_another_value_stands_for_a_while_and_a_name_that_is_gone_is_an_error() -> None:
    class Owner:
        name = "before"

        @staticmethod
        def static() -> str:
            return "static"

    kept = vars(Owner)["static"]
    with pytest.raises(RuntimeError), patched(Owner, "name", "within"), patched(Owner, "static", lambda: "another"):
        assert (Owner.name, Owner.static()) == ("within", "another")
        raise RuntimeError
    assert Owner.name == "before" and vars(Owner)["static"] is kept
    with pytest.raises(AttributeError, match="gone"), patched(Owner, "gone", None):
        pass
