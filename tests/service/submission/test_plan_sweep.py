import json
from pathlib import Path
from typing import Any

import pytest

from service.cluster.local_ray import LocalRay
from service.errors import InvalidInput, UnknownName
from service.recipes import sweeps as recipes
from service.records.claim import Submission
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.records.sweep_schemas import Trial
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.submission.plan import Plan, Request
from service.submission.plan_sweep import plan_sweep
from service.submission.submit import submit
from service.sweeps.points import Points

SWEEP = """
base: {recipe: lenet5-digits, workers: 1, worker: {cpus: 0.01}}
space:
  batch: {grid: [16, 32, 64]}
  optimizer.learning_rate: {grid: [0.001, 0.01]}
seeds: 2
"""


def plan_for(store: Store, folder: Path, *overrides: str, text: str = SWEEP, **options: Any) -> Plan:
    (folder / "sweep.yaml").write_text(text)
    spec, stem = recipes.resolve("sweep.yaml", list(overrides), options.pop("workers", None), folder)
    request = Request(spec, **{"stem": stem, "folder": folder, "run_id": "a-sweep", **options})
    return plan_sweep(request, Settings.load(store=store.url), store, LocalRay(folder))


def test_a_plan_writes_nothing_and_counts_the_trials(local_store: Store, tmp_path: Path) -> None:
    document = plan_for(local_store, tmp_path).document()
    assert not list(local_store.objects(""))
    assert (document["kind"], document["points"], document["trials"]) == ("sweep", 6, 12)
    assert document["resources_per_trial"]["cpus"] == 0.01
    assert document["first_trial"]["batch"] == 16
    json.dumps(document, allow_nan=False)


def test_a_plan_names_the_trials_that_train_together(local_store: Store, tmp_path: Path) -> None:
    assert plan_for(local_store, tmp_path).document()["together"] == []
    text = """
base: {recipe: bit-memory-rnn, worker: {cpus: 0.01}}
space:
  batch: {grid: [20, 40]}
  optimizer.learning_rate.initial: {grid: [0.001, 0.01]}
seeds: 2
"""
    groups = plan_for(local_store, tmp_path, text=text).document()["together"]
    assert groups == [[f"a-sweep-{number:04d}" for number in numbers] for numbers in (range(4), range(4, 8))]
    assert "together" not in plan_for(local_store, tmp_path, "together=never", text=text).document()


def test_a_plan_without_a_name_leaves_room_for_its_trials(local_store: Store, tmp_path: Path) -> None:
    made = plan_for(local_store, tmp_path, run_id=None, stem="a" * 60)
    assert len(made.run_id) <= 41
    with pytest.raises(InvalidInput, match="at most 41"):
        plan_for(local_store, tmp_path, run_id="a" * 42)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["metric=beauty"], "No trial reports the metric 'beauty'"),
        (["metric=val_acuracy"], "did you mean 'val_accuracy'"),
        (["scheduler=pbt", "seeds=1"], "space.batch cannot"),
        (["scheduler=pbt", "seeds=1", "space.batch=null", "space.optimizer.learning_rate={grid: [0.1]}"], "has one"),
        (["scheduler=pbt", "seeds=1", "space.batch=null", "space.optimizer.learning_rate={uniform: [0.1, 0.2]}"], "give trials"),
        (["base.evaluate.validation=0"], "needs evaluate.validation above 0"),
        (["metric=test_accuracy", "scheduler=asha"], "judges trials by what they report while they train"),
        (["space.batch={grid: [16, 100000]}"], "A batch of 100000 is larger"),
        (["space.model_params.colour={grid: [1]}"], "no parameter 'colour'"),
        (["space.colour={grid: [1]}"], "Unknown key 'colour'"),
        (["space.batch={grid: [16, many]}"], "many"),
        (["space.model={grid: [lenet5, lenet7]}"], "no model 'lenet7'"),
        (["space.dataset={grid: [digits, letters]}"], "no dataset 'letters'"),
        (["space.optimizer.name={choice: [adam, madam]}"], "no optimizer 'madam'"),
        (["space.batch=null", "space.optimizer.learning_rate=null"], "space is empty"),
        (["base.worker.cpus=1000"], "need"),
        (["base.seed=2147483647"], "2 seeds of the base 'lenet5-digits' end at 2147483648"),
    ],
)
def test_what_is_wrong_with_any_value_is_found_before_anything_starts(
    overrides: list[str], words: str, local_store: Store, tmp_path: Path
) -> None:
    with pytest.raises((InvalidInput, UnknownName)) as raised:
        plan_for(local_store, tmp_path, *overrides)
    assert words in str(raised.value)
    assert not list(local_store.objects(""))


def test_the_largest_seed_may_be_the_last(local_store: Store, tmp_path: Path) -> None:
    assert plan_for(local_store, tmp_path, "base.seed=2147483646").details["trials"] == 12


def test_trials_of_more_workers_than_the_cluster_holds_are_refused(local_store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="16 workers"):
        plan_for(local_store, tmp_path, "base.worker.cpus=100", workers="16")


def test_the_same_sweep_again_is_the_same_and_another_space_is_refused_with_what_differs(
    local_store: Store, tmp_path: Path
) -> None:
    assert submit(plan_for(local_store, tmp_path), local_store) == Submission("start")
    assert submit(plan_for(local_store, tmp_path), local_store).action == "attach"
    record = RunRecord(local_store, "a-sweep")
    record.write_state(StateDocument(state="cancelled", attempt=1, attempts=[], finished=7.0, error=None))
    other = plan_for(local_store, tmp_path, "space.batch={grid: [16, 32]}", resume=True)
    with pytest.raises(InvalidInput, match=r"space.batch.grid is \[16, 32, 64\] there, \[16, 32\] here"):
        submit(other, local_store)
    changed = plan_for(local_store, tmp_path, "base.epochs=3", resume=True)
    with pytest.raises(InvalidInput, match=r"base\.0\.values\.epochs is \d+ there, 3 here"):
        submit(changed, local_store)
    further = submit(plan_for(local_store, tmp_path, "trials=4", resume=True), local_store)
    assert (further.action, further.resume, further.changed) == ("start", True, True)


@pytest.mark.parametrize(("begun", "more"), [(["trials=4"], "trials=12"), ([], "trials=4")])
def test_a_sweep_that_is_resumed_keeps_its_order(begun: list[str], more: str, local_store: Store, tmp_path: Path) -> None:
    first = plan_for(local_store, tmp_path, *begun)
    submit(first, local_store)
    record = RunRecord(local_store, "a-sweep")
    record.write_state(StateDocument(state="cancelled", attempt=1, attempts=[], finished=7.0, error=None))
    further = plan_for(local_store, tmp_path, more, resume=True)
    assert submit(further, local_store).action == "start"
    points, earlier = Points(further.spec), Points(first.spec)  # type: ignore[arg-type]
    assert [points.point(number) for number in range(6)] == [earlier.point(number) for number in range(6)]
    other = "nested" if begun else "spread"
    with pytest.raises(InvalidInput, match=f'order is "{"spread" if begun else "nested"}" there, "{other}" here'):
        submit(plan_for(local_store, tmp_path, more, f"order={other}", resume=True), local_store)


def ended(store: Store, used: float, *trials: dict[str, Any]) -> None:
    """Let the sweep end as succeeded after so many seconds, with those trials: `run` is the state of each one's run."""
    record = RunRecord(store, "a-sweep")
    noted = []
    for number, trial in enumerate(trials):
        name = f"a-sweep-{number:04d}"
        run = {"attempts": [], "metrics": {}, "error": None, **trial.pop("run", {"state": "succeeded"})}
        RunRecord(store, name).write_state(StateDocument(**run))
        noted.append({"id": name, "number": number, "point": number // 2, "base": "b", "params": {}, "seed": number % 2, **trial})
    record.write_trials([Trial(**each) for each in noted])
    state = {"state": "succeeded", "attempt": 1, "attempts": [], "finished": 7.0, "error": None, "used_seconds": used}
    record.write_state(StateDocument(**state))


BY_BUDGET = {"run": {"state": "cancelled"}, "stopped": {"by": "budget"}}
BY_ASHA = {"run": {"state": "cancelled"}, "stopped": {"by": "asha"}}
LOST = {"run": {"state": "failed", "error": {"kind": "infrastructure", "message": "lost"}}}
FAULTY = {"run": {"state": "failed", "error": {"kind": "user", "message": "mine"}}}


@pytest.mark.parametrize(
    ("first", "trials", "further", "action"),
    [
        (["budget=60s"], [{}, BY_BUDGET], "budget=2m", "start"),
        (["budget=60s"], [{}, {}], "budget=2m", "start"),
        (["budget=60s"], [{}, BY_BUDGET], "budget=60s", "finished"),
        (["budget=60s"], [{}, BY_BUDGET], "trials=12", "finished"),
        (["budget=60s", "trials=2"], [{}, {}], "budget=2m", "finished"),
        (["trials=2"], [{}, {}], "trials=4", "start"),
        (["trials=2"], [{}, {}], "trials=2", "finished"),
        (["trials=2"], [{}, LOST], "trials=2", "start"),
        (["trials=2"], [FAULTY, BY_ASHA], "trials=2", "finished"),
        (["trials=12"], [{}] * 12, "trials=20", "finished"),
        (["trials=12"], [{}] * 6 + [{"point": 5}] * 2, "trials=12", "finished"),
    ],
)
def test_a_sweep_that_succeeded_goes_further_where_it_has_more_to_do_and_time(
    first: list[str], trials: list[dict[str, Any]], further: str, action: str, local_store: Store, tmp_path: Path
) -> None:
    submit(plan_for(local_store, tmp_path, *first), local_store)
    ended(local_store, 60.2, *(dict(trial) for trial in trials))
    assert submit(plan_for(local_store, tmp_path, *first), local_store).action == "finished"
    found = submit(plan_for(local_store, tmp_path, *first, further, resume=True), local_store)
    assert (found.action, found.resume) == (action, action == "start")
    if action == "start":
        assert (found.changed, found.earlier_end) == (further not in first, 7.0)


def test_an_id_stands_for_a_run_or_a_sweep(local_store: Store, tmp_path: Path) -> None:
    made = plan_for(local_store, tmp_path)
    first = made.spec.base[0].values  # type: ignore[union-attr]

    RunRecord(local_store, "a-sweep").claim(TrainSpec.model_validate(first))
    with pytest.raises(InvalidInput, match="is a run"):
        submit(made, local_store)


@pytest.mark.parametrize("together", ["auto", "never"])
def test_values_that_contradict_each_other_are_found_by_the_plan(local_store: Store, tmp_path: Path, together: str) -> None:
    text = f"""
base: {{recipe: bit-memory-rnn, worker: {{cpus: 0.01}}}}
space:
  dataset_params.delay: {{grid: [5, 30]}}
  dataset_params.length: {{grid: [40, 20]}}
together: {together}
"""
    with pytest.raises(InvalidInput, match=r"dataset_params.delay 30, dataset_params.length 20 make no trial together: .*delay"):
        plan_for(local_store, tmp_path, text=text)


DRAWN = """
base: {recipe: bit-memory-rnn, worker: {cpus: 0.01}}
space:
  epochs: {integers: [18, 22]}
  batch: {expression: 20 + 0 * (1 // (epochs - 20))}
"""


@pytest.mark.parametrize("seed", [0, 3])
def test_drawn_values_that_make_no_trial_together_do_not_keep_a_sweep_from_its_beginning(
    local_store: Store, tmp_path: Path, seed: int
) -> None:
    """With seed 0 the very first point is such a one."""
    document = plan_for(local_store, tmp_path, text=f"{DRAWN}search: random\ntrials: 60\nseed: {seed}\n").document()
    ids = [name for group in document["together"] for name in group]
    assert len(set(ids)) == len(ids) < 60
    assert document["first_trial"]["epochs"] != 20
    with_a_grid = DRAWN.replace("space:", "space:\n  dataset_params.sequences: {grid: [400, 800]}")
    plan_for(local_store, tmp_path, text=f"{with_a_grid}trials: 60\ntogether: never\nseed: {seed}\n")


def test_the_data_of_all_bases_travels_with_a_sweep(local_store: Store, tmp_path: Path) -> None:
    base = [
        {"name": name, "model": "dense", "dataset": "digits", "epochs": 1, "package_data": data}
        for name, data in (("a", ["a.txt", "b.txt"]), ("b", "b.txt"))
    ]
    planned = plan_for(local_store, tmp_path, text=json.dumps({"base": base, "space": {"batch": {"grid": [16]}}}))
    assert planned.job(False).data == ("a.txt", "b.txt")
