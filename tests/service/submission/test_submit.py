import json
import time
from pathlib import Path

import pytest
from support.plans import plan_for

from service.errors import InvalidInput, UnknownName
from service.records.claim import Submission
from service.records.lease import Lease
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.storage.base import Store
from service.storage.paths import RunPaths
from service.submission.plan import Plan
from service.submission.submit import replaces_spec, submit


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


def test_a_submission_keeps_the_spec_and_how_it_was_asked_for(local_store: Store, tmp_path: Path) -> None:
    made = plan_for(local_store, tmp_path, command=("delayline", "train"))
    submit(made, local_store)
    stored = RunRecord(local_store, "a-run").submission()
    assert stored.spec == made.spec.document()
    assert (stored.recipe, stored.command, stored.folder) == ("cnn-digits", ("delayline", "train"), str(tmp_path))


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
    assert "workers is 2 there, 4 here" in events[-1].message


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
