"""Sweeps in a store as their driver and their trials leave them, without training any."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from service.datasets.catalogue import BITS_VERSION
from service.names import trial_id
from service.records.run_record import RunRecord
from service.records.schemas import ProgressDocument, StateDocument
from service.records.submission_schemas import Origin
from service.records.sweep_schemas import Trial
from service.specs.sweep import SweepSpec
from service.storage.base import Store
from service.storage.json_documents import rows_to_bytes, to_bytes
from service.sweeps.points import Points

START = 1_790_000_000.0
Document = dict[str, Any]
Measure = Callable[[Document], float]

DELAYS: Document = {
    "base": [
        {
            "name": name,
            "values": {
                "model": model,
                "dataset": "bits",
                "dataset_params": {"sequences": 100},
                "task": "bit-memory",
                "epochs": 4,
                "batch": 20,
                "log_every": 10,
            },
        }
        for name, model in (("lstm & <b>co</b>", "lstm"), ("gru", "gru"), ("elman", "elman"))
    ],
    "space": {"dataset_params.delay": {"grid": [2, 4, 8, 16, 32, 64, 128, 256]}},
    "seeds": 3,
}
"""Three kinds of network, each less able to bridge a longer delay."""
VERSIONS = {"digits": "uci-1998", "bits": BITS_VERSION}
DIGITS = [{"name": "lenet5-digits", "values": {"model": "lenet5", "dataset": "digits", "epochs": 4, "batch": 32}}]
DRAWN: Document = {
    "base": DIGITS,
    "space": {
        "optimizer.learning_rate": {"loguniform": [1e-5, 1e-1]},
        "model_params.dropout": {"uniform": [0.0, 0.6]},
        "model_params.width": {"integers": [8, 256]},
        "batch": {"choice": [16, 32, 64]},
        "optimizer.name": {"choice": ["adam", "sgd"]},
        "model_params.noise": {"expression": "model_params.dropout / 2"},
    },
    "search": "random",
    "trials": 60,
}

SETTLED: Document = {
    "base": DIGITS,
    "space": {
        "model_params.activation": {"grid": ["relu", "tanh", "a very long name of an activation function"]},
        "optimizer": {"grid": ["adam", {"name": "sgd", "momentum": 0.9}]},
    },
    "seeds": 2,
}
"""Nothing that varies is a number."""


def by_delay(trial: Document) -> float:
    """A share of right answers that falls with the delay."""
    reach = {"gru": 60.0, "elman": 10.0}.get(trial["base"], 200.0)
    return 0.5 + 0.49 / (1 + (trial["params"]["dataset_params.delay"] / reach) ** 2) - 0.01 * math.sin(trial["number"])


def by_rate(trial: Document | Trial) -> float:
    """Best near a learning rate of 0.003; the width and the optimizer matter a little, all else not at all."""
    params = trial.params if isinstance(trial, Trial) else trial["params"]
    rate = math.log10(params["optimizer.learning_rate"]) + 2.5
    return 0.95 - 0.1 * rate**2 - 0.03 * (params["optimizer.name"] == "sgd") + 0.0002 * params["model_params.width"]


def write_sweep(
    store: Store,
    sweep_id: str = "a-sweep",
    spec: Document = DELAYS,
    measure: Measure = by_delay,
    *,
    states: Mapping[int, str] | None = None,
    state: str = "succeeded",
    count: int | None = None,
    whole: bool = True,
) -> RunRecord:
    """Write a sweep of `count` trials (None: all of its points) of the value that `measure` gives.

    `states`: of trials by number, where it is not `succeeded`; without `whole` trials have a state and nothing else.
    """
    sweep, record = SweepSpec.model_validate(spec), RunRecord(store, sweep_id)
    command = ["delayline", "sweep", "my sweep.yaml"]
    version = VERSIONS.get(sweep.base[0].values["dataset"], "v1")
    origin = Origin(recipe="my sweep", dataset_version=version, command=command, folder="/home/me")
    record.claim(sweep, origin)
    if state == "queued":
        return record
    points = Points(sweep)
    trials: list[Document] = []
    for number in range(points.count * sweep.seeds if count is None else count):
        index, seed = divmod(number, sweep.seeds)
        point = points.point(index)
        trial: Document = {"id": trial_id(sweep_id, number), "number": number, "point": index, "base": point.base}
        trial |= {"params": point.params, "seed": seed}
        if (states or {}).get(number) == "stopped":
            trial["stopped"] = {"by": "asha", "evaluation": 1, "message": "asha: after 1 evaluations it was not among the best"}
        trials.append(trial)
        name = (states or {}).get(number, "succeeded")
        if whole:
            RunRecord(store, trial["id"]).claim(points.spec(point, seed), origin.changed(sweep=sweep_id, point=index))
        if name != "queued":
            chance = 0.5 if sweep.base[0].values.get("task") == "bit-memory" else None
            _write_trial(RunRecord(store, trial["id"]), name, measure(trial), sweep.metric, whole, chance)
    record.write_trials([Trial(**trial) for trial in trials])
    ended = state in ("succeeded", "failed", "cancelled")
    attempt = {"number": 1, "workers": [], "started": START, "finished": START + 90 if ended else None, "reason": None}
    times = {"started": START, "finished": attempt["finished"], "used_seconds": 90.0}
    record.write_state(
        StateDocument.model_validate({"state": state, "attempts": [attempt], "metrics": {}, "error": None, **times})
    )
    events = [{"time": START + 5, "attempt": 1, "event": "running", "message": "2 trials <run> side by side"}]
    store.write(record.paths.events(record.label(1), "driver"), rows_to_bytes(events))
    return record


def _write_trial(record: RunRecord, state: str, value: float, metric: str, whole: bool, chance: float | None) -> None:
    message = "The loss became nan <at> step 3: lower the learning rate."
    error = {"kind": "user", "exit_code": 3, "message": message} if state == "failed" else None
    short = {"failed": 1, "stopped": 1, "running": 2}.get(state, 4)
    metrics = {} if state == "failed" else {metric: value, "loss": 1 - value, "val_loss": 1.1 - value}
    metrics |= {"test_accuracy": value - 0.01, "test_loss": 1.2 - value} if state == "succeeded" else {}
    attempt = {"number": 1, "workers": [], "started": START, "finished": START + 9, "reason": state}
    document = {"attempts": [attempt], "started": START, "finished": START + 9, "metrics": metrics, "error": error}
    record.write_state(StateDocument.model_validate({"state": "cancelled" if state == "stopped" else state, **document}))
    if not whole:
        return
    record.write_progress(ProgressDocument(epoch=short, epochs=4, step=40 * short, steps=160, metrics=metrics))
    rows = [
        {
            "epoch": epoch,
            "step": 40 * epoch,
            "loss": 1.5 - value * learnt,
            "val_loss": 1.6 - value * learnt,
            metric: value * learnt,
        }
        for epoch in range(1, short + 1)
        for learnt in (1 - 0.4**epoch,)
    ]
    record.write_history(rows)
    counts = {"training": 1293, "validation": 144, "test": 360, "steps_per_epoch": 40, "by_class": [143] * 10}
    facts = {"layers": [], "parameters": 61706, "trained": 61706, "classes": list("0123456789"), "features": [], "versions": {}}
    facts |= {"chance": chance}
    record.store.write(record.paths.model_facts(record.label(1)), to_bytes({**facts, "counts": counts}))
