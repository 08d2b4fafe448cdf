"""Ray Train's TensorflowTrainer (Train V2) without TensorFlow in the driver and the controller."""

from collections.abc import Callable
from typing import Any

from ray.train.v2._internal.callbacks.accelerators import AcceleratorSetupCallback
from ray.train.v2._internal.callbacks.backend_setup import BackendSetupCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.train.v2.tensorflow.tensorflow_trainer import TensorflowTrainer

from jobs.worker_groups.ring_backend import RingConfig


class RingTrainer(TensorflowTrainer):
    """TensorflowTrainer, whose own constructor imports TensorFlow; its ring is formed by RingBackend."""

    def __init__(self, train_loop: Callable[[dict[str, Any]], None], **options: Any) -> None:
        DataParallelTrainer.__init__(self, train_loop, backend_config=RingConfig(), **options)


class LocalRingTrainer(RingTrainer):
    """The same with the controller in this process and none of the helpers that one machine has no use for."""

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        from jobs.worker_groups.lean_ray import run_controller_here

        return run_controller_here(arguments)

    def _create_default_callbacks(self) -> list[Any]:
        return [AcceleratorSetupCallback(self.backend_config, self.scaling_config), BackendSetupCallback(self.backend_config)]
