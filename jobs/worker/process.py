"""One worker process: ships its log, watches itself, trains, and reports a failure."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from jobs.artifacts.logs import LOG, LogShipper, capture_output
from jobs.liveness import watched_for_stalls
from jobs.log_lines import say
from jobs.training.hooks import NO_HOOKS, Hooks
from jobs.worker.cleanup import delete_generated_sources
from jobs.worker.config import WorkerConfig, fence_of
from jobs.worker.failures import report_failure
from jobs.worker.peers import identity
from service.records import user_package
from service.records.run_record import Document, RunRecord
from service.scratch import ScratchFolder
from service.settings import Settings
from service.specs.quantities import OFF
from service.specs.train import TrainSpec
from service.storage import open_store
from service.user_folder import python


def train_worker(values: dict[str, Any]) -> None:
    """Run one worker of one attempt; `values` are those of WorkerConfig."""
    import ray.train

    run_worker(WorkerConfig(**values), ray.train.get_context().get_world_rank())


def run_worker(config: WorkerConfig, rank: int, hooks: Hooks = NO_HOOKS) -> None:
    """Run one worker in this process; raise one of Delayline's errors, which is in the store by then."""
    folder = ScratchFolder("worker")
    log_file = Path(folder.name, LOG)
    capture_output(log_file)
    config.enter_environment()
    settings = Settings.load()
    store = open_store(settings, patience=settings.store_patience)
    record = RunRecord(store, config.run_id, config.nonce)
    shipper = LogShipper(store, partial(record.paths.log, record.label(config.attempt), rank), log_file)
    say(f"worker {rank} of {config.workers} on {socket.gethostname()}, process {os.getpid()}, attempt {config.attempt}")
    try:
        with stall_watch(config, rank, log_file):
            _run(config, settings, record, rank, log_file, hooks)
        say("done")
    except BaseException as error:
        raise report_failure(record, config.attempt, rank, error) from None
    finally:
        shipper.close()
        folder.cleanup()
        delete_generated_sources()


def _run(
    config: WorkerConfig,
    settings: Settings,
    record: RunRecord,
    rank: int,
    log_file: Path,
    hooks: Hooks,
) -> None:
    def guard(message: str, seconds: float) -> AbstractContextManager[None]:
        order = {"run_id": config.run_id, "nonce": config.nonce, "attempt": config.attempt, "rank": rank, "log": str(log_file)}
        return watched({**order, "message": message, "seconds": seconds, "pid": os.getpid()})

    limit_threads(config.cpus)
    if 0 < TrainSpec.model_validate(config.spec).worker.gpus < 1:
        # TensorFlow takes all of a GPU's memory otherwise.
        os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    import jobs.worker.lean_keras  # noqa: F401
    from jobs.training.trainer import train

    spec = TrainSpec.model_validate(config.spec)
    members = identity(rank)
    place = config.place(rank, user_package.enter(record.store, config.folder), record, settings, members)
    train(spec, place, record, fence_of(record, config), members, guard, hooks, config.trained)


def stall_watch(config: WorkerConfig, rank: int, log_file: Path) -> AbstractContextManager[None]:
    """Within it a process beside this one ends it when it stalls."""
    limit = TrainSpec.model_validate(config.spec).stall_limit
    if limit == OFF:
        return contextlib.nullcontext()
    order = {"run_id": config.run_id, "nonce": config.nonce, "attempt": config.attempt, "rank": rank, "log": str(log_file)}
    return watched_for_stalls({**order, "limit": limit})


@contextlib.contextmanager
def watched(order: Document) -> Iterator[None]:
    """Within it, jobs.worker.watchdog ends this process with `order["message"]` when it takes longer than `order["seconds"]`."""
    watchdog = subprocess.Popen(
        python("jobs.worker.watchdog"),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.PIPE,
        text=True,
    )
    assert watchdog.stdin
    try:
        watchdog.stdin.write(json.dumps(order) + "\n")
        watchdog.stdin.flush()
        yield
    finally:
        watchdog.stdin.close()
        threading.Thread(target=watchdog.wait, daemon=True).start()


def limit_threads(cpus: float) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["OMP_NUM_THREADS"] = str(max(1, int(cpus)))
    from jobs.training import ring

    ring.limit_threads(cpus)
