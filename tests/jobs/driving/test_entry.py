"""Which runs that have ended are driven once more, and what a submission without `delayline` answers: the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import sweep, train
from jobs.driving import entry as driving
from service import recipes
from service.cluster.local_ray import LocalRay
from service.errors import InvalidInput
from service.records.run_record import RunRecord
from service.records.schemas import StateDocument
from service.settings import Settings
from service.specs.sweep import SweepSpec
from service.specs.train import TrainSpec
from service.storage.base import Store
from service.submission.plan import Request, plan
from service.submission.submit import submit

BASE = {"model": "lenet5", "dataset": "digits", "epochs": 1}
SWEEP = SweepSpec.model_validate({"base": [{"name": "b", "values": BASE}], "space": {"batch": {"grid": [16, 32]}}, "budget": 60})
MORE = ("--spec-changes", json.dumps({**SWEEP.document(), "budget": 120.0}))


@pytest.mark.parametrize(
    ("spec", "state", "options", "driven"),
    [
        (SWEEP, "cancelled", ("--resume",), True),
        (SWEEP, "cancelled", (), False),
        (SWEEP, "succeeded", ("--resume",), False),
        (SWEEP, "succeeded", MORE, False),
        (SWEEP, "succeeded", ("--resume", *MORE), True),
        (TrainSpec.model_validate(BASE), "failed", ("--resume",), True),
        (TrainSpec.model_validate(BASE), "succeeded", ("--resume",), False),
    ],
)
def test_resume_drives_what_did_not_succeed_and_a_sweep_that_goes_further(
    spec: TrainSpec | SweepSpec, state: str, options: tuple[str, ...], driven: bool, local_store: Store
) -> None:
    record = RunRecord(local_store, "r")
    record.claim(spec)
    record.write_state(StateDocument(state=state, attempts=[], exit_code=0, used_seconds=60.1))
    arguments = driving.parser("sweep" if spec is SWEEP else "train", "none").parse_args(
        ["--run", "r", "--store", local_store.url, *options]
    )

    def never(*_: Any) -> str:
        raise AssertionError("the run is claimed")

    assert driving.take_and_drive(arguments, never, lambda *_: 7) == (7 if driven else 0)


def by_command(store: Store, folder: Path, *changes: str, resume: bool = False) -> str | None:
    """Submit a run as `delayline train` does; the spec that its driver would get in place of the stored one."""
    spec, stem = recipes.resolve("cnn-digits", ["worker.cpus=0.01", *changes], None, folder)
    settings = Settings.load(store=store.url)
    planned = plan(Request(spec, stem, folder, "r", resume), settings, store, LocalRay(folder))
    submission = submit(planned, store)
    return planned.job(submission.resume, submission.changed).spec_changes


def by_driver(store: Store, folder: Path, *changes: str, resume: bool = False) -> str | None:
    """Submit a run as `python -m jobs.train` does; the same."""
    words = [word for change in ("worker.cpus=0.01", *changes) for word in ("-s", change)]
    command = ["cnn-digits", *words, "--name", "r", *(["--resume"] if resume else [])]
    arguments = driving.parser("train", "none").parse_args(command)
    train.submit(arguments, Settings.load(store=store.url), store)
    return str(arguments.spec_changes) if arguments.spec_changes else None


WAYS = pytest.mark.parametrize("submit_by", [by_command, by_driver])
Way = Callable[..., str | None]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path


@WAYS
def test_a_sweeps_id_is_refused_for_a_run_by_its_kind(submit_by: Way, local_store: Store, here: Path) -> None:
    RunRecord(local_store, "r").claim(SWEEP)
    with pytest.raises(InvalidInput) as refused:
        submit_by(local_store, here)
    assert str(refused.value) == "'r' is a sweep, not a run: give another --name."


@WAYS
def test_both_ways_name_both_values_of_what_differs(submit_by: Way, local_store: Store, here: Path) -> None:
    submit_by(local_store, here)
    with pytest.raises(InvalidInput, match=r"exists with another spec \(model_params.dropout is 0.25 there, 0.5 here\)"):
        submit_by(local_store, here, "model_params.dropout=0.5")


@WAYS
def test_both_ways_a_resumed_run_may_change_its_workers(submit_by: Way, local_store: Store, here: Path) -> None:
    submit_by(local_store, here)
    record = RunRecord(local_store, "r")
    record.write_state(StateDocument(state="cancelled", attempts=[], finished=7.0, exit_code=130))
    changes = submit_by(local_store, here, "workers=4", resume=True)
    assert json.loads(changes or "{}")["workers"] == 4
    assert "workers is 2 there, 4 here" in record.events()[-1].message


@WAYS
def test_both_ways_a_request_to_stop_is_withdrawn_only_by_who_resumes(submit_by: Way, local_store: Store, here: Path) -> None:
    submit_by(local_store, here)
    record = RunRecord(local_store, "r")
    record.write_state(StateDocument(state="cancelled", attempts=[], finished=7.0, exit_code=130))
    record.request_cancel()
    if submit_by is by_command:
        with pytest.raises(InvalidInput, match="was cancelled: add --resume to continue"):
            submit_by(local_store, here)
    else:
        submit_by(local_store, here)
    assert record.cancel_requested()
    submit_by(local_store, here, resume=True)
    assert not record.cancel_requested()


@pytest.mark.parametrize(("module", "spec", "kinds"), [(train, SWEEP, "sweep, not a run"), (sweep, BASE, "run, not a sweep")])
def test_a_driver_refuses_an_id_of_the_other_kind(
    module: Any, spec: Any, kinds: str, local_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    RunRecord(local_store, "r").claim(spec if spec is SWEEP else TrainSpec.model_validate(spec))
    assert module.main(["--run", "r", "--store", local_store.url]) == 2
    assert f"'r' is a {kinds}: give another --run." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "host", "code", "waits"),
    [
        ([], "10.0.0.1", 4, 1),
        ([], "", 4, 0),
        ([], "10.0.0.1", 0, 0),
        (["--folder", "."], "10.0.0.1", 4, 0),
    ],
)
def test_a_job_of_kubernetes_that_the_system_stopped_waits_to_be_killed(
    local_store: Store, monkeypatch: pytest.MonkeyPatch, options: list[str], host: str, code: int, waits: int
) -> None:
    """Not where somebody submitted or supervises it, and starts the next driver."""
    record, waited = RunRecord(local_store, "r"), list[str]()
    record.claim(TrainSpec.model_validate(BASE))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.setattr(driving, "wait_until_killed", lambda say: waited.append("waits"))

    def drive(*_: Any) -> int:
        record.write_state(StateDocument(state="retrying", reason="signal"))
        return code

    arguments = driving.parser("train", "none").parse_args(["--run", "r", "--store", local_store.url, *options])
    assert driving.take_and_drive(arguments, lambda *_: "r", drive) == code
    assert len(waited) == waits
