"""Ray Data as a reader of functions in their order."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

OBJECT_STORE_BYTES = 24 * 1024**2
"""Parts in Ray's object store at a time, for each worker (derived: three workers fit a local cluster's 80 MB)."""
READERS = 1
"""Read tasks at a time for each worker: one picks some hundred megabytes a second."""
REST_SECONDS = 0.02
"""Between two steps of Ray Data's scheduling loop, which otherwise spins while enough is read ahead, and takes half of the
training thread's time (measured on CIFAR-10, 2 cores)."""


class _Rest(ExecutionCallback):
    """Slows Ray Data's scheduling loop, whose time the training thread of this process needs."""

    def on_execution_step(self, executor: Any) -> None:
        time.sleep(REST_SECONDS)


class _Reads(Datasource):
    """One read task for each function."""

    def __init__(self, tasks: list[ReadTask], size: int) -> None:
        super().__init__()
        self._tasks = tasks
        self._size = size

    def estimate_inmemory_data_size(self) -> int:
        return self._size

    def get_read_tasks(self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None) -> list[ReadTask]:
        return self._tasks


def read_in_order(tasks: Sequence[Callable[[], list[pa.Table]]], rows: Sequence[int], row_bytes: int) -> Iterator[pa.Table]:
    """What the functions return, in their order, each run by a Ray Data task on this node; `rows` is what each gives."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.custom_execution_callback_classes = [_Rest]
    context.execution_options.preserve_order = True
    context.execution_options.verbose_progress = False
    limits = type(context.execution_options.resource_limits)
    context.execution_options.resource_limits = limits.for_limits(object_store_memory=OBJECT_STORE_BYTES)
    planned = [
        ReadTask(task, BlockMetadata(num_rows=count, size_bytes=count * row_bytes, exec_stats=None, input_files=None))
        for task, count in zip(tasks, rows, strict=True)
    ]
    dataset = ray.data.read_datasource(
        _Reads(planned, sum(rows) * row_bytes),
        num_cpus=0,
        concurrency=READERS,
        override_num_blocks=len(planned),
        label_selector={"ray.io/node-id": ray.get_runtime_context().get_node_id()},
    )
    # After the dataset is made, which sets up Ray Data's logs: a line for each dataset would fill the worker's own.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
