import json
import time
from pathlib import Path
from typing import Any

import pytest
from support.datasets_in_a_store import make_dataset

from service import recipes
from service.checks.train import check_dataset, check_names
from service.cluster.local_ray import LocalRay
from service.errors import InvalidInput, UnknownName
from service.records.claim import Submission
from service.records.differences import differing
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.storage.paths import RunPaths
from service.submission.plan import Plan, Request, plan
from service.submission.submit import replaces_spec, submit


def spec_of(*overrides: str) -> TrainSpec:
    return recipes.resolve("cnn-digits", ["worker.cpus=0.01", *overrides], None, Path())[0]


def plan_for(store: Store, folder: Path, *overrides: str, **options: Any) -> Plan:
    settings = Settings.load(store=store.url)
    request = Request(spec_of(*overrides), **{"stem": "cnn-digits", "folder": folder, "run_id": "a-run", **options})
    return plan(request, settings, store, LocalRay(folder))


def end(store: Store, state: str, finished: float = 7.0) -> RunRecord:
    record = RunRecord(store, "a-run")
    record.write_state(StateDocument(state=state, attempt=1, attempts=[], finished=finished, error=None))
    return record


@pytest.fixture
def first(local_store: Store, tmp_path: Path) -> Plan:
    """A plan that was submitted once."""
    made = plan_for(local_store, tmp_path)
    assert submit(made, local_store) == Submission("start")
    return made


def test_a_plan_writes_nothing_and_says_everything(local_store: Store, tmp_path: Path) -> None:
    document = plan_for(local_store, tmp_path, "steps=30").document()
    assert not list(local_store.objects(""))
    assert {"id", "spec", "resources", "cluster", "store", "dataset"} <= set(document)
    assert set(TrainSpec.model_fields) == set(document["spec"])
    assert document["resources"]["cpus"] == 0.02
    json.dumps(document, allow_nan=False)


def test_a_plan_without_a_name_makes_one(local_store: Store, tmp_path: Path) -> None:
    assert plan_for(local_store, tmp_path, run_id=None).run_id.startswith("cnn-digits-")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("early_stopping={metric: loss}", "evaluate.validation=0"), "use -s evaluate.validation=0.1"),
        (("early_stopping={metric: accuracy, goal: 0.9}", "evaluate.validation=0"), "use -s evaluate.validation=0.1"),
        (("early_stopping={metric: val_f1}",), "use val_loss, val_accuracy, loss, accuracy"),
        (("early_stopping={metric: test_loss}",), "no evaluation reports"),
        (("early_stopping={metric: learning_rate}",), "no evaluation reports"),
    ],
)
def test_a_stop_that_could_never_come_is_refused_but_for_a_run_that_exists(
    local_store: Store, tmp_path: Path, overrides: tuple[str, ...], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        plan_for(local_store, tmp_path, *overrides)
    RunRecord(local_store, "a-run").claim(spec_of(*overrides))
    assert plan_for(local_store, tmp_path, *overrides).spec == spec_of(*overrides)


def test_a_bad_run_id_is_refused(local_store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="run id"):
        plan_for(local_store, tmp_path, run_id="../up")


def test_a_submission_keeps_the_spec_and_how_it_was_asked_for(local_store: Store, tmp_path: Path) -> None:
    made = plan_for(local_store, tmp_path, command=("delayline", "train"))
    submit(made, local_store)
    stored = RunRecord(local_store, "a-run").submission()
    assert stored.spec == made.spec.document()
    assert (stored.recipe, stored.command, stored.folder) == ("cnn-digits", ("delayline", "train"), str(tmp_path))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model=cn", "did you mean 'cnn'"),
        ("model=huge", "no model 'huge'"),
        ("model_params.dropuot=0", "no parameter 'dropuot' .did you mean 'dropout'"),
        ("task=clasification", "classification"),
    ],
)
def test_an_unknown_name_is_refused(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_names(spec_of(override), tmp_path)


def test_a_model_that_gives_one_answer_is_refused_where_each_step_needs_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="one for each step: use elman or gru or jordan or lstm or simple-rnn"):
        check_names(spec_of("dataset=bits", "task=bit-memory"), tmp_path)


@pytest.mark.parametrize("model", ["lstm", "elman"])
def test_a_model_that_target_space_cannot_solve_is_refused(tmp_path: Path, model: str) -> None:
    with pytest.raises(InvalidInput, match=f"the model '{model}': use cnn or dense or lenet5 or simple-rnn, or space=weight"):
        check_names(spec_of(f"model={model}", "space=target"), tmp_path)


@pytest.mark.parametrize(
    ("model", "params", "words"),
    [
        ("lstm", "units: 0", "units is 0, but a width must be a positive whole number"),
        ("jordan", "units: 2.5", "units is 2.5"),
        ("elman", "units: true", "units is True"),
        ("gru", "units: [8, -1]", r"units is \[8, -1\]"),
        ("gru", "start: chrono", "start is 'chrono', but the model 'gru' takes constant or simple"),
        ("lstm", "start: chain", "takes constant or chrono or simple"),
        ("simple-rnn", "start: [chain]", "takes orthogonal or glorot or identity or chain"),
    ],
)
def test_a_width_and_a_start_that_a_recurrent_model_does_not_take_are_refused(
    tmp_path: Path, model: str, params: str, words: str
) -> None:
    bits = ("dataset=bits", "task=bit-memory", f"model={model}")
    check_names(spec_of(*bits, "model_params={units: {expression: batch // 2}}"), tmp_path)
    with pytest.raises(InvalidInput, match=words):
        check_names(spec_of(*bits, f"model_params={{{params}}}"), tmp_path)


@pytest.mark.parametrize("start", ["orthogonal", "glorot", "identity", "chain"])
def test_known_starts_are_planned(tmp_path: Path, start: str) -> None:
    check_names(
        spec_of("dataset=bits", "task=bit-memory", "model=simple_rnn", f"model_params={{units: [4, 5], start: {start}}}"),
        tmp_path,
    )


def test_target_space_is_planned_without_batch_normalisation_that_learns(tmp_path: Path) -> None:
    normalised = ("model=cnn", "model_params.batch_norm=true", "space.name=target")
    with pytest.raises(InvalidInput, match=r"use -s model_params\.batch_norm=false, or space=weight"):
        check_names(spec_of(*normalised), tmp_path)
    check_names(spec_of(*normalised, "space.initial=weights", "init_from=base", "freeze=all-but-head"), tmp_path)


@pytest.mark.parametrize("workers", ["2", "1-2"])
def test_batch_normalisation_of_several_workers_is_not_compiled(tmp_path: Path, workers: str) -> None:
    normalised = ("model=cnn", "model_params.batch_norm=true", "jit_compile=true")
    with pytest.raises(InvalidInput, match="use -s jit_compile=false, or workers=1"):
        check_names(spec_of(*normalised, f"workers={workers}"), tmp_path)
    check_names(spec_of(*normalised, "workers=1"), tmp_path)
    check_names(spec_of("model=cnn", "jit_compile=true", f"workers={workers}"), tmp_path)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("input=stream", "nothing to stream: use -s input=auto"),
        ("augment=[{name: flip}]", r"no images for augment to change: use -s augment=\[\]"),
        ("space={name: target, realisation_length: 71}", "realisation_length is 71, but the sequences have 70 steps"),
    ],
)
def test_what_does_nothing_for_bits_is_refused(tmp_path: Path, override: str, words: str) -> None:
    bits = ("dataset=bits", "task=bit-memory", "model=simple-rnn", "model_params={}")
    check_names(spec_of(*bits, "input=memory", "space={name: target, realisation_length: 70}"), tmp_path)
    with pytest.raises(InvalidInput, match=words):
        check_names(spec_of(*bits, override), tmp_path)


def test_generated_sequences_are_planned_without_a_store(local_store: Store) -> None:
    spec = spec_of("dataset=bits", "task=bit-memory", "dataset_params={sequences: 200}", "model=lstm", "model_params={}")
    wanted = {"name": "bits", "version": "philox-1", "training": 180, "validation": 20, "test": 200}
    assert check_dataset(spec, local_store) == wanted


def test_a_users_module_is_found_and_not_imported(tmp_path: Path) -> None:
    (tmp_path / "nets_of_mine.py").write_text("raise RuntimeError")
    (tmp_path / "package_of_mine").mkdir()
    (tmp_path / "package_of_mine" / "__init__.py").write_text("raise RuntimeError")
    (tmp_path / "package_of_mine" / "nets.py").write_text("raise RuntimeError")
    check_names(spec_of("model=nets_of_mine:build"), tmp_path)
    check_names(spec_of("model=package_of_mine.nets:build"), tmp_path)
    check_names(spec_of("model=json.decoder:JSONDecoder"), tmp_path)
    for absent in ("absent:build", "nets_of_mine.inner:build", "package_of_mine.absent:build"):
        with pytest.raises(InvalidInput, match="is not found from"):
            check_names(spec_of(f"model={absent}"), tmp_path)
    with pytest.raises(InvalidInput, match="is not found from"):
        check_names(spec_of("callbacks=['absent.calls:make']"), tmp_path)


def test_an_unknown_dataset_is_refused(local_store: Store) -> None:
    with pytest.raises(UnknownName):
        check_dataset(spec_of("dataset=absent"), local_store)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["batch=1700"], "use -s batch="),
        (["batch=1400"], "held out"),
        (["evaluate.validation=0.0001"], "is none"),
        (["training_examples=1294"], "more than the 1293 training examples of digits .of 1437, 144 are held out"),
        (["training_examples=50"], "A batch of 64 is larger than the 50 training examples"),
    ],
)
def test_a_batch_and_a_validation_share_must_be_filled(local_store: Store, overrides: list[str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_dataset(spec_of(*overrides), local_store)


def test_the_number_of_training_examples_is_planned(local_store: Store) -> None:
    counts = check_dataset(spec_of("training_examples=64"), local_store)
    assert (counts["training"], counts["validation"], counts["test"]) == (64, 144, 360)


def test_a_datasets_own_validation_split_is_planned_and_nothing_is_held_out(local_store: Store) -> None:
    make_dataset(local_store, "d", [40], validation=[3])
    for share, validation in (("0.1", 3), ("0.001", 3), ("0", 0)):
        counts = check_dataset(spec_of("dataset=d", "batch=40", f"evaluate.validation={share}"), local_store)
        assert (counts["training"], counts["validation"], counts["test"]) == (40, validation, 5)


def test_more_workers_than_processors_are_refused(local_store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="this machine has"):
        plan_for(local_store, tmp_path, "worker.cpus=4000")
    with pytest.raises(InvalidInput, match=r"worker\.gpus=0"):
        plan_for(local_store, tmp_path, "workers=64", "worker.gpus=1")


def test_a_run_that_waits_for_its_driver_is_attached_to(first: Plan, local_store: Store) -> None:
    assert submit(first, local_store).action == "attach"


def test_a_live_run_is_attached_to(first: Plan, local_store: Store) -> None:
    record = end(local_store, "running")
    assert Lease(record).acquire()
    assert submit(first, local_store).action == "attach"


def test_a_finished_run_gives_its_result(first: Plan, local_store: Store, tmp_path: Path) -> None:
    end(local_store, "succeeded")
    assert submit(first, local_store).action == "finished"
    assert submit(plan_for(local_store, tmp_path, resume=True), local_store).action == "finished"


def test_a_lost_run_is_continued(first: Plan, local_store: Store) -> None:
    end(local_store, "running").request_cancel()
    assert submit(first, local_store) == Submission("start")
    assert not RunRecord(local_store, "a-run").cancel_requested()


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_run_that_ended_otherwise_needs_resume(first: Plan, local_store: Store, tmp_path: Path, state: str) -> None:
    end(local_store, state)
    with pytest.raises(InvalidInput, match="add --resume"):
        submit(first, local_store)
    assert submit(plan_for(local_store, tmp_path, resume=True), local_store) == Submission("start", resume=True, earlier_end=7.0)


def test_resume_needs_a_run(local_store: Store, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no run 'a-run'"):
        submit(plan_for(local_store, tmp_path, resume=True), local_store)


def test_another_spec_is_refused_with_what_differs(first: Plan, local_store: Store, tmp_path: Path) -> None:
    other = plan_for(local_store, tmp_path, "seed=3", "steps=4", "model_params.dropout=0.5", "retries=9", resume=True)
    with pytest.raises(InvalidInput) as raised:
        submit(other, local_store)
    message = str(raised.value)
    for words in ("seed is 0 there, 3 here", "steps is null there, 4 here", "model_params.dropout is 0.25 there, 0.5 here"):
        assert words in message
    assert "retries is" not in message


def test_a_resumed_run_may_change_its_workers(first: Plan, local_store: Store, tmp_path: Path) -> None:
    end(local_store, "cancelled")
    changed = plan_for(local_store, tmp_path, "workers=4", "retries=9", "time_limit=2h", resume=True)
    assert replaces_spec(changed, local_store) and not list(local_store.objects(RunPaths("a-run").events_root))
    assert not replaces_spec(plan_for(local_store, tmp_path, resume=True), local_store)
    assert not replaces_spec(plan_for(local_store, tmp_path, "workers=4", run_id="another", resume=True), local_store)
    submission = submit(changed, local_store)
    assert (submission.action, submission.changed) == ("start", True)
    assert json.loads(changed.job(True, submission.changed).spec_changes or "") == changed.spec.document()
    events = RunRecord(local_store, "a-run").events()
    assert "workers is 2 there, 4 here" in events[-1]["message"]


def test_without_resume_other_workers_are_another_spec(first: Plan, local_store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="workers is 2 there, 4 here"):
        submit(plan_for(local_store, tmp_path, "workers=4"), local_store)


@pytest.mark.parametrize(
    ("state", "resume", "action"), [("succeeded", False, "finished"), ("running", False, "start"), ("failed", True, "start")]
)
def test_other_tags_are_the_same_run_and_said_to_be_left_out(
    first: Plan, local_store: Store, tmp_path: Path, state: str, resume: bool, action: str
) -> None:
    end(local_store, state)
    again = submit(plan_for(local_store, tmp_path, "tags=[b]", resume=resume), local_store)
    assert (again.action, again.changed) == (action, False)
    assert again.remark == "The run 'a-run' keeps no tags, as it was first submitted; not changed to: b."


def test_a_key_that_this_version_added_is_no_difference(first: Plan, local_store: Store) -> None:
    record = RunRecord(local_store, "a-run")
    submission = record.submission()
    del submission.spec["jit_compile"]
    local_store.write(record.paths.spec, json.dumps(submission.changed(submitted=time.time()).document()).encode())
    assert submit(first, local_store).action == "attach"


def test_names_differences_at_any_depth() -> None:
    found = differing({"a": 1, "b": {"c": {"d": 1}, "e": [1]}}, {"b": {"c": {"d": 2}, "e": [1]}, "f": "x"})
    assert found == [("a", "a is 1 there, null here"), ("b", "b.c.d is 1 there, 2 here"), ("f", 'f is null there, "x" here')]


def test_names_differences_within_lists_of_the_same_length() -> None:
    found = differing(
        {"base": [{"n": 1}, {"n": 2, "v": [3, 4]}], "u": [1]}, {"base": [{"n": 1}, {"n": 5, "v": [3, 6]}], "u": [1, 2]}
    )
    wanted = ["base.1.n is 2 there, 5 here", "base.1.v.1 is 4 there, 6 here", "u is [1] there, [1, 2] here"]
    assert [line for _, line in found] == wanted
