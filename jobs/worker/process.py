"""What Ray Train runs in each worker process: prepare, train, and say whose fault a failure is."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jobs.artifacts.logs import LOG, LogShipper, capture_output
from jobs.liveness import watched_for_stalls
from jobs.worker.cleanup import delete_generated_sources
from jobs.worker.peers import identity
from service.errors import (
    CredentialsRefused,
    DelaylineError,
    InfrastructureFailure,
    LeaseLost,
    Stalled,
    StoreError,
    StoreUnreachable,
    UserFailure,
)
from service.records import user_package
from service.records.run_record import Document, RunRecord, to_bytes
from service.scratch import ScratchFolder
from service.settings import Settings
from service.specs.quantities import OFF
from service.specs.train import TrainSpec
from service.storage import open_store
from service.user_folder import python


@dataclass(frozen=True)
class WorkerConfig:
    """What the driver tells each worker; plain values, no secrets."""

    run_id: str
    spec: Document
    attempt: int
    nonce: str
    """With the attempt's number its part of the keys of all that it writes."""
    workers: int
    cpus: float
    lease_token: str
    folder: str
    """Where the user started the command, or their package in the store: their modules are found from here."""
    environment: Mapping[str, str]
    trained: Document | None = None
    """What the progress document said when the training was done, of a run whose analysis was lost: it alone is made again."""

    def settings(self) -> Settings:
        """The driver's settings; credentials come from this process's own environment."""
        os.environ.update(self.environment)
        return Settings.load()


def train_worker(values: dict[str, Any]) -> None:
    """Run one worker of one attempt; `values` are those of WorkerConfig."""
    import ray.train

    run_worker(WorkerConfig(**values), ray.train.get_context().get_world_rank())


def run_worker(config: WorkerConfig, rank: int, goes_on: Callable[[Document], bool] | None = None) -> None:
    """Run one worker in this process; raise one of Delayline's errors, which is in the store by then.

    `goes_on` is called by rank 0 with each row of metrics, and says whether the training is to go on.
    """
    folder = ScratchFolder("worker")
    log_file = Path(folder.name, LOG)
    capture_output(log_file)
    settings = config.settings()
    store = open_store(settings, patience=settings.store_patience)
    record = RunRecord(store, config.run_id, config.nonce)
    shipper = LogShipper(store, partial(record.paths.log, record.label(config.attempt), rank), log_file)
    say(f"worker {rank} of {config.workers} on {socket.gethostname()}, process {os.getpid()}, attempt {config.attempt}")
    try:
        with stall_watch(config, rank, log_file):
            _run(config, settings, record, rank, log_file, goes_on)
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
    goes_on: Callable[[Document], bool] | None,
) -> None:
    def guard(message: str, seconds: float) -> AbstractContextManager[None]:
        order = {"run_id": config.run_id, "nonce": config.nonce, "attempt": config.attempt, "rank": rank, "log": str(log_file)}
        return watched({**order, "message": message, "seconds": seconds, "pid": os.getpid()})

    limit_threads(config.cpus)
    if 0 < TrainSpec.model_validate(config.spec).worker.gpus < 1:
        # By itself TensorFlow takes all of a GPU's memory.
        os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    import jobs.worker.lean_keras  # noqa: F401
    from jobs.training.examples import Place
    from jobs.training.trainer import run_session

    spec = TrainSpec.model_validate(config.spec)
    version = record.submission().get("dataset_version")
    members = identity(rank)
    folder = user_package.enter(record.store, config.folder)
    place = Place(
        rank, config.workers, config.attempt, folder, version, settings.ring_timeout, settings.cache, settings.cache_bytes,
        neighbours=sum(member["host"] == socket.gethostname() for member in members),
    )  # fmt: skip
    run_session(spec, place, record, fence_of(record, config), members, guard, goes_on, config.trained)


def stall_watch(config: WorkerConfig, rank: int, log_file: Path) -> AbstractContextManager[None]:
    """Within it a process beside this one ends it when it does not get on."""
    limit = TrainSpec.model_validate(config.spec).stall_limit
    if limit == OFF:
        return contextlib.nullcontext()
    order = {"run_id": config.run_id, "nonce": config.nonce, "attempt": config.attempt, "rank": rank, "log": str(log_file)}
    return watched_for_stalls({**order, "limit": limit})


def fence_of(record: RunRecord, config: WorkerConfig) -> Callable[[], None]:
    """Raises LeaseLost when this attempt no longer owns the run."""

    def fence() -> None:
        if record.lease().get("token") != config.lease_token:
            raise LeaseLost(f"Another driver took over the run {config.run_id}; this attempt stops.")

    return fence


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


def say(message: str) -> None:
    """A line of the worker's log."""
    print(f"{time.strftime('%H:%M:%S')} {message}", flush=True)


def report_failure(
    record: RunRecord, attempt: int, rank: int, error: BaseException, tell: Callable[[str], None] | None = None
) -> DelaylineError:
    """Write why this worker ended to its log and to the store, and return the error as one of Delayline's.

    `tell` writes a line of the log, where that is not what this process prints.
    """
    known = classify(error)
    details = getattr(known, "user_traceback", "") or "".join(traceback.format_exception(error))
    # Where the disk is full there is no log, but there is the store.
    with contextlib.suppress(OSError):
        if tell is None:
            print(details, file=sys.stderr, flush=True)
        else:
            tell(details)
        (tell or say)(f"failed: {known}")
    document: Document = {
        "kind": kind_of(known),
        "exit_code": known.exit_code,
        "message": str(known),
        "traceback": details[-8000:],
        "rank": rank,
        "time": time.time(),
        **({"stalled": True} if isinstance(known, Stalled) else {}),
        **({"passing": True} if isinstance(known, StoreUnreachable | CredentialsRefused) else {}),
    }
    try:
        record.store.write(record.paths.failure(record.label(attempt), rank), to_bytes(document))
    except StoreError as refused:
        with contextlib.suppress(OSError):
            (tell or say)(f"the failure could not be written to the store: {refused}")
    return known


def kind_of(error: DelaylineError) -> str:
    """The word for a failure's class in the run's documents."""
    if isinstance(error, UserFailure):
        return "user"
    if isinstance(error, LeaseLost):
        return "lease"
    if isinstance(error, StoreError):
        return "store"
    return "infrastructure" if isinstance(error, InfrastructureFailure) else "invalid"


def classify(error: BaseException) -> DelaylineError:
    """Whose failure it is: Delayline's own errors as they are; TensorFlow's by what they mean; others by their stack."""
    if isinstance(error, DelaylineError):
        return error
    from jobs.worker.failures import classify_exception

    return classify_exception(error)
