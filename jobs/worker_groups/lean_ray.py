"""Ray and Ray Train with as few processes as one machine needs: what makes a local run start in half the time.

Ray starts a monitor, a log monitor and a dashboard beside each local cluster, and Ray Train a controller, an
autoscaling coordinator, a placement group cleaner, a synchronisation actor and a data manager beside the workers.
Each is a Python process that imports most of Ray (2 to 9 s of processor time each, measured on 2 cores), and a
run uses none of them: retries, checkpoints and logs are Delayline's own. Here the controller runs in the driver, on this machine
and on a cluster, whose head holds 0.5 GiB less for it (measured). On this machine the processes that wait for workers or trials
import TensorFlow while Ray starts.

This leans on the insides of Ray 2.60, which is pinned: `tests/jobs/worker_groups/test_insides_of_ray.py` looks whether they are
there, `tests/integration` runs it whole.
"""

import asyncio
import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import ray
import ray._private.node
import ray._private.parameter
from ray.util.placement_group import PlacementGroup

from jobs.worker_groups.patched import patched
from service.ray_folder import default_ray_folder, short_ray_folder


@contextlib.contextmanager
def few_system_processes() -> Iterator[None]:
    """Within it, `ray.init` starts a cluster without monitor, log monitor and dashboard."""
    parameters = functools.partial(ray._private.parameter.RayParams, no_monitor=True, include_log_monitor=False)
    with (
        patched(ray._private.parameter, "RayParams", parameters),
        patched(ray._private.node.Node, "start_api_server", lambda self, **_: None),
    ):
        yield


def start_local_ray(
    cpus: int, object_store_bytes: int, prepared_modules: tuple[str, ...], helpers: int = 0, ray_tmpdir: str | None = None
) -> None:
    """Start a Ray cluster on this machine whose `cpus` waiting workers import `prepared_modules` at once.

    `helpers`: processes beside the workers that are kept although they wait; Ray ends others after a second.
    Raise InvalidInput where its sockets can have no path that is short enough.
    """
    folder = short_ray_folder(ray_tmpdir) or default_ray_folder(ray_tmpdir)
    with few_system_processes():
        ray.init(
            address="local",
            include_dashboard=False,
            num_cpus=cpus,
            object_store_memory=object_store_bytes,
            log_to_driver=False,
            logging_level="ERROR",
            configure_logging=False,
            _temp_dir=str(folder),
            _system_config={"preload_python_modules": list(prepared_modules), "num_workers_soft_limit": cpus + helpers},
        )


class _NoActor:
    """In the place of Ray Train's synchronisation actor, which only `ray.train.report` uses."""

    def options(self, **_: Any) -> "_NoActor":
        return self

    def remote(self, **_: Any) -> "_NoActor":
        return self


def run_controller_here(arguments: dict[str, Any], prepared: bool, held: PlacementGroup | None) -> Any:
    """Run Ray Train's controller in this thread, with the arguments that it would get as an actor; return its Result.

    `prepared`: workers wait already, those of `start_local_ray`. `held`: the placement group for them; None: one is made.
    """
    from ray.train.v2._internal.execution.controller import controller as controllers
    from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy
    from ray.train.v2._internal.execution.worker_group import state as states
    from ray.train.v2._internal.execution.worker_group import worker_group as groups
    from ray.train.v2._internal.execution.worker_group.placement_group_handle import DefaultPlacementGroupHandle

    class LocalScalingPolicy(FixedScalingPolicy):
        """A fixed size, without an autoscaler's coordinator to tell of it: a placement group that waits tells it too."""

        def after_controller_start(self, train_run_context: Any) -> None: ...

        def _maybe_send_resource_request(self) -> None: ...

    class LocalWorkerGroup(groups.WorkerGroup):
        """Has no actor for `ray.train.report`; takes the room that is held, and the workers that wait already: they have no environment
        of their own."""

        @staticmethod
        def _get_worker_runtime_env(custom_runtime_env: Any) -> dict[str, Any]:
            return {} if prepared else dict(groups.WorkerGroup._get_worker_runtime_env(custom_runtime_env))

        def _create_placement_group(self, *arguments: Any) -> Any:
            return super()._create_placement_group(*arguments) if held is None else DefaultPlacementGroupHandle(held)

        def _init_train_context_on_workers(self, workers: list[Any], sync_actor: Any, arguments: dict[str, list[Any]]) -> None:
            calls = [
                worker.actor.init_train_context.remote(
                    train_run_context=self._train_run_context,
                    distributed_context=worker.distributed_context,
                    synchronization_actor=None,
                    storage_context=self._storage_context,
                    worker_callbacks=self._worker_callbacks_to_propagate,
                    controller_actor=None,
                    **{name: values[index] for name, values in arguments.items()},
                )
                for index, worker in enumerate(workers)
            ]
            ray.get(calls)
            self._decorate_worker_log_file_paths(workers)

    class LocalController(controllers.TrainController):
        """The controller, not as an actor."""

        worker_group_cls = LocalWorkerGroup

    arguments["scaling_policy"] = LocalScalingPolicy(arguments["scaling_policy"].scaling_config)
    with (
        patched(groups, "SynchronizationActor", _NoActor()),
        patched(states, "_shutdown_sync_actor", lambda _: None),
    ):
        controller = LocalController(**arguments)
        asyncio.run(controller.run())
        return controller.get_result()
