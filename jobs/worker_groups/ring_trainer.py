"""Ray Train's TensorflowTrainer (Train V2) without TensorFlow in the driver, which is the controller."""

from collections.abc import Callable
from typing import Any

from ray.train.v2._internal.callbacks.accelerators import AcceleratorSetupCallback
from ray.train.v2._internal.callbacks.backend_setup import BackendSetupCallback
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.train.v2.tensorflow.tensorflow_trainer import TensorflowTrainer
from ray.util.placement_group import PlacementGroup

from jobs.worker_groups.ring_backend import RingConfig


class RingTrainer(TensorflowTrainer):
    """TensorflowTrainer, whose own constructor imports TensorFlow; its ring is formed by RingBackend.

    Its controller runs in this process, without the helpers that a run has no use for. `prepared`: its workers wait already. `held`: a
    placement group with room for them. `started` is called once all of them run the training function.
    """

    def __init__(
        self,
        train_loop: Callable[[dict[str, Any]], None],
        prepared: bool,
        held: PlacementGroup | None,
        started: Callable[[], None],
        **options: Any,
    ) -> None:
        self._prepared = prepared
        self._held = held
        self._started = started
        DataParallelTrainer.__init__(self, train_loop, backend_config=RingConfig(), **options)

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        from jobs.worker_groups.lean_ray import run_controller_here

        return run_controller_here(arguments, self._prepared, self._held)

    def _create_default_callbacks(self) -> list[Any]:
        return [
            AcceleratorSetupCallback(self.backend_config, self.scaling_config),
            BackendSetupCallback(self.backend_config),
            _Started(self._started),
        ]


class _Started(WorkerGroupCallback):
    """Tells that the workers run."""

    def __init__(self, started: Callable[[], None]) -> None:
        self._started = started

    def after_worker_group_training_start(self, worker_group: Any) -> None:
        self._started()
