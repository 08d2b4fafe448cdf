"""Ray Tune for one sweep: how many trials fit side by side, what each takes, and the run from the first to the last."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.worker_groups.capacity import DRIVER_CPUS, resources_of_worker, room_for
from jobs.worker_groups.ray_cluster import PREPARED_MODULES, RayCluster
from service.errors import DelaylineError, InfrastructureFailure, InvalidInput
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec

if TYPE_CHECKING:
    from jobs.sweeps.trial_queue import Trials

MOST_LOSSES = 1000
"""Processes of one trial that may be lost: its own driver counts which losses were failures, and ends it (assumed: more than any
run that gets on loses)."""

_TUNE_ENVIRONMENT = {
    # The sweep's own records hold all that these would write.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    # Tune would take the first Ctrl-C for itself, and end the sweep as one whose trials failed.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
}


@dataclass(frozen=True)
class Capacity:
    """`parallel` trials run side by side; `resources` is what Ray sets aside for the process of each; `local`: Ray is this process's own.

    `limit`: how many Tune may begin; None where the resources limit them: Tune then holds the next trials ready, and only
    when it does it keeps a process for its next trial.
    """

    parallel: int
    resources: dict[str, float]
    local: bool
    limit: int | None


def connect(cluster: RayCluster, sweep: SweepSpec, trial: TrainSpec) -> Capacity:
    """Start or join the cluster and count what fits; raise InfrastructureFailure when not even one trial does.

    A trial of one worker is its own process. The process of a distributed one only waits for its workers: it takes 0.01 CPU,
    which its workers leave free, so that as many trials fit as there is room for their workers and none waits for ever.
    """
    for name, value in _TUNE_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    local, workers = cluster.local, trial.worker_counts[0]
    if not local and not cluster.is_connected:
        cluster.connect(0)
    fit = side_by_side(trial, [node.total for node in cluster.nodes()])
    if fit < 1:
        raise InfrastructureFailure(
            f"A trial of {trial.worker_counts[-1]} workers of {trial.worker.cpus:g} CPUs and {trial.worker.gpus:g} GPUs does not fit "
            f"on the cluster as it is now: use smaller trials, or resume with --resume when there is more room."
        )
    parallel = min(fit, sweep.parallel or fit)
    if local and not cluster.is_connected:
        # Its CPUs are counted in processes: the real cores were counted before.
        processes = parallel + (parallel * workers if workers > 1 else 0)
        cluster.connect(processes, (*PREPARED_MODULES, "jobs.sweeps.trial"))
    by_resources = trial.workers == (1, 1) and (local or parallel == fit)
    if sweep.scheduler.name == "pbt" and not by_resources:
        raise InvalidInput(
            f"With the scheduler pbt all trials take turns, and on this cluster {fit} of them fit side by side, not {parallel}: "
            f"leave parallel out, or make the trials larger."
        )
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(parallel)
    return Capacity(parallel, _resources(trial, local), local, None if by_resources else parallel)


def side_by_side(trial: TrainSpec, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many trials these nodes hold at once, with the fewest workers that each allows: by processors, GPUs and memory."""
    return sum(room_for(node, resources_of_worker(trial.worker)) for node in nodes) // trial.worker_counts[-1]


def _resources(trial: TrainSpec, local: bool) -> dict[str, float]:
    if trial.workers != (1, 1):
        return {"CPU": DRIVER_CPUS}
    if local:
        return {"CPU": 1.0, **({"GPU": float(trial.worker.gpus)} if trial.worker.gpus else {})}
    wanted = {"CPU": trial.worker.cpus, "GPU": float(trial.worker.gpus), "memory": float(trial.worker.memory or 0)}
    return {name: value for name, value in wanted.items() if value}


def run_trials(sweep: SweepSpec, first: TrainSpec, capacity: Capacity, trials: "Trials", folder: Path) -> None:
    """Let Ray Tune run the trials until there is none left; raise InfrastructureFailure. `folder`: for Tune's own files."""
    from ray import tune

    from jobs.sweeps.trial_process import TrialProcess
    from jobs.sweeps.trial_queue import TrialQueue, make_scheduler
    from jobs.worker_groups.tune_insides import trials_in_prepared_processes, without_analysis, without_secrets

    tuner = tune.Tuner(
        tune.with_resources(TrialProcess, tune.PlacementGroupFactory([capacity.resources])),
        tune_config=tune.TuneConfig(
            metric=sweep.metric,
            mode=sweep.mode,
            search_alg=TrialQueue(trials.take, trials.ended, pauses=sweep.scheduler.name == "pbt"),
            scheduler=make_scheduler(sweep, trials, capacity.parallel),
            num_samples=-1,
            max_concurrent_trials=capacity.limit,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=str(folder),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=MOST_LOSSES),
        ),
    )
    try:
        with _quiet(), without_analysis(), trials_in_prepared_processes() if capacity.local else without_secrets():
            tuner.fit()
    except DelaylineError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise InfrastructureFailure(f"Ray Tune ended the sweep by {type(error).__name__}: {text}") from error


@contextlib.contextmanager
def _quiet() -> Any:
    """Tune tells its progress through Python's logging."""
    import logging

    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.train", "ray._private", "ray")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
