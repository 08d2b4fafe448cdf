"""What a driver makes of how its attempts end; the workers are played, the store and the lease are real."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.artifacts.checkpoints import CheckpointStore, Snapshot
from jobs.driving import driver as driver_module
from jobs.driving import heartbeat
from jobs.driving.driver import Driver, _describe
from jobs.driving.stops import SIGNAL, Stops
from service.errors import InfrastructureFailure, LeaseLost
from service.records.cancel_requests import TIME_LIMIT
from service.records.lease import Lease, lease_is_live, lease_of
from service.records.run_record import RunRecord
from service.settings import Settings
from service.specs.train import CheckpointPolicy, TrainSpec
from service.storage.json_documents import to_bytes
from service.storage.local import LocalStore

WORKER = {"rank": 0, "host": "h", "pid": 1}


MakeSpec = Callable[..., TrainSpec]
Act = Callable[[RunRecord, int], BaseException | None]


class Stage:
    """Plays the worker group: attempt by attempt, the next of `acts`; the last one stays."""

    wait_limit = 60.0

    def __init__(self, record: RunRecord, acts: list[Act]) -> None:
        self.record, self.acts = record, acts
        self.alive, self.connects, self.configs, self.killed, self.left = True, 0, list[Any](), False, False

    def __call__(self, settings: Settings, spec: TrainSpec) -> "Stage":
        return self

    def connect(self) -> None:
        self.connects += 1

    def size(self) -> int:
        return 2

    def start(self, config: Any) -> "Played":
        self.configs.append(config)
        return Played(self, config.attempt)

    def is_alive(self) -> bool:
        return self.alive

    def kill(self) -> None:
        self.killed = True

    def disconnect(self) -> None:
        self.left = True


class Played:
    """One attempt; its act runs at the second look at it."""

    def __init__(self, stage: Stage, number: int) -> None:
        self.stage, self.number, self.looks = stage, number, 0
        self.error: BaseException | None = None

    def wait(self, seconds: float) -> bool:
        self.looks += 1
        if self.looks == 1:
            return False
        act = self.stage.acts[min(self.number, len(self.stage.acts)) - 1]
        try:
            self.error = act(self.stage.record, self.number)
        except StillRunning:
            time.sleep(seconds)
            return False
        return True


class StillRunning(Exception):
    pass


def succeeds(record: RunRecord, number: int) -> None:
    record.write_progress({"attempt": number, "phase": "succeeded", "metrics": {"test_accuracy": 0.9}, "workers": [WORKER]})


def is_lost(record: RunRecord, number: int) -> BaseException:
    return RuntimeError("a node went away")


def fails(*kinds: tuple[str, int]) -> Act:
    """Each worker leaves a failure of a kind with an exit code."""

    def act(record: RunRecord, number: int) -> BaseException:
        for rank, (kind, code) in enumerate(kinds):
            document = {"kind": kind, "exit_code": code, "message": f"{kind} of {rank}", "rank": rank, "traceback": "nets.py"}
            record.store.write(record.paths.failure(record.label(number), rank), to_bytes(document))
        return RuntimeError("Ray's own words")

    return act


def obeys(record: RunRecord, number: int) -> None:
    """Trains until it is asked to stop."""
    if not record.cancel_requested():
        record.write_progress({"attempt": number, "phase": "training", "workers": [{"rank": 0, "host": "h", "pid": 1}]})
        raise StillRunning
    record.write_progress({"attempt": number, "phase": "cancelled", "metrics": {"loss": 0.5}})


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return RunRecord(LocalStore(tmp_path / "store"), "a-run")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses before retries, which are not made."""
    made: list[float] = []
    monkeypatch.setattr(Stops, "wait", lambda stops, seconds: made.append(seconds))
    return made


@pytest.fixture
def play(
    record: RunRecord, make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> Iterator[Callable[..., tuple[int, Stage]]]:
    """Drives the run with these acts to its end."""
    monkeypatch.setattr(driver_module, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(LocalStore, "look_seconds", 0.01)

    def drive(
        *acts: Act, fresh: bool = False, stage: Stage | None = None, stops: Stops | None = None, **keys: Any
    ) -> tuple[int, Stage]:
        stage = stage or Stage(record, list(acts))
        monkeypatch.setattr(driver_module, "WorkerGroup", stage)
        spec = make_spec(**keys)
        record.claim(spec, {})
        lease = Lease(record)
        assert lease.acquire()
        settings = Settings.load(store=str(tmp_path / "store"))
        driver = Driver(record, spec, settings, lease, str(tmp_path), fresh, lambda message: None, stops=stops or Stops())
        return driver.run(), stage

    yield drive


def reasons(record: RunRecord) -> list[str]:
    return [attempt["reason"] for attempt in record.state()["attempts"]]


def test_a_run_that_succeeds(play: Callable[..., Any], record: RunRecord) -> None:
    code, stage = play(succeeds)
    state = record.state()
    assert (code, state["state"], state["exit_code"], state["error"]) == (0, "succeeded", 0, None)
    assert state["metrics"] == {"test_accuracy": 0.9}
    assert state["attempts"][0]["workers"] == [WORKER]
    assert state["started"] <= state["attempts"][0]["started"] <= state["attempts"][0]["finished"] <= state["finished"]
    assert not lease_is_live(lease_of(record))
    assert stage.left
    config = stage.configs[0]
    assert (config.attempt, config.workers, config.run_id) == (1, 2, "a-run")
    assert config.lease_token == record.lease()["token"]


@pytest.mark.parametrize("act", [succeeds, obeys, fails(("user", 3))], ids=["succeeded", "cancelled", "failed"])
def test_every_end_leaves_a_page(play: Callable[..., Any], record: RunRecord, act: Act) -> None:
    if act is obeys:
        # Asked for while the run goes on: a driver forgets what was asked before it began.
        threading.Timer(0.5, record.request_cancel).start()
    play(act)
    state = record.state()["state"]
    assert f'class="state {state}"' in record.store.read(record.paths.report).decode()
    assert "no report" not in [row["event"] for row in record.events()]


def test_a_page_that_cannot_be_made_changes_nothing(
    play: Callable[..., Any], record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_report(_: RunRecord) -> None:
        raise ValueError("no such font")

    monkeypatch.setattr("jobs.reports.write.write_report", write_report)
    code, _ = play(succeeds)
    assert (code, record.state()["state"]) == (0, "succeeded")
    last = record.events()[-1]
    assert last["event"] == "no report"
    assert "ValueError: no such font" in last["message"]


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_lost_workers_are_replaced_as_often_as_retries_say(
    play: Callable[..., Any], record: RunRecord, pauses: list[float], retries: int
) -> None:
    code, stage = play(is_lost, retries=retries)
    state = record.state()
    assert (code, state["state"], state["exit_code"]) == (4, "failed", 4)
    assert len(stage.configs) == len(state["attempts"]) == retries + 1
    assert state["error"]["kind"] == "infrastructure"
    assert state["error"]["message"].endswith(f"a node went away. The {retries} retries are used up.")
    assert all(attempt["finished"] for attempt in state["attempts"])


def saves(step: int, act: Act) -> Act:
    """Saves a checkpoint before it ends."""

    def saving(record: RunRecord, number: int) -> BaseException | None:
        save_checkpoint(record, number, step)
        return act(record, number)

    return saving


def save_checkpoint(record: RunRecord, number: int, step: int) -> None:
    checkpoints = CheckpointStore(record, CheckpointPolicy(keep_last=9), record.label(number))
    found = record.checkpoints()
    checkpoints.adopt(found[-1]["step"] if found else 0)
    checkpoints.save(Snapshot(step=step, epoch=1, model={}, optimizer={}, history=[], position={}))


def test_losses_with_a_new_checkpoint_between_them_are_not_counted_together(play: Callable[..., Any], record: RunRecord) -> None:
    code, stage = play(*(saves(4000 * number, is_lost) for number in range(1, 6)), succeeds, retries=1)
    assert (code, len(stage.configs)) == (0, 6)
    assert [attempt["saved"] for attempt in record.state()["attempts"]] == [4000, 8000, 12000, 16000, 20000, 20000]


def test_losses_behind_the_same_checkpoint_are_counted(play: Callable[..., Any], record: RunRecord, pauses: list[float]) -> None:
    code, stage = play(saves(4000, is_lost), saves(8000, is_lost), is_lost, is_lost, is_lost, retries=2)
    assert (code, len(stage.configs)) == (4, 4)
    assert pauses == [0.5, 0.5, 1.0]


def test_waiting_for_room_costs_no_retry_and_has_an_end(play: Callable[..., Any], record: RunRecord) -> None:
    stage = Stage(record, [is_lost, succeeds])
    refusals = iter(range(12))

    def size() -> int:
        if next(refusals, None) is not None:
            assert record.state()["state"] in ("starting", "retrying")
            raise InfrastructureFailure("The cluster holds 0 CPUs.")
        return 2

    stage.size = size  # type: ignore[method-assign]
    assert play(stage=stage, retries=1)[0] == 0
    assert [row["event"] for row in record.events()].count("waiting") == 1
    stage.wait_limit = 0.0
    refusals = iter(range(12))
    record.write_state({"state": "queued", "attempts": [], "error": None})
    assert play(stage=stage)[0] == 4
    error = record.state()["error"]
    assert error["kind"] == "infrastructure"
    assert "The cluster holds 0 CPUs. It was waited for 0 s" in error["message"]


def test_a_request_to_stop_ends_the_wait_for_room(play: Callable[..., Any], record: RunRecord) -> None:
    stage = Stage(record, [])

    def size() -> int:
        record.request_cancel()
        raise InfrastructureFailure("The cluster holds 0 CPUs.")

    stage.size = size  # type: ignore[method-assign]
    assert play(stage=stage)[0] == 130


def test_a_driver_that_the_system_stops_leaves_a_run_that_anybody_goes_on_with(
    play: Callable[..., Any], record: RunRecord
) -> None:
    stops = Stops()

    def terminated(record: RunRecord, number: int) -> None:
        if record.progress():
            stops.by = SIGNAL
            stops.wanted.set()
            record.request_cancel(reason=SIGNAL)
        obeys(record, number)

    code, _ = play(terminated, stops=stops)
    state = record.state()
    assert (code, state["state"], state["reason"], state["error"], state["finished"]) == (4, "retrying", "signal", None, None)
    assert not lease_is_live(lease_of(record))
    assert stops.ended.is_set()
    assert reasons(record) == ["signal"]
    code, _ = play(is_lost, succeeds, retries=1)
    assert (code, record.state()["state"], "reason" in record.state()) == (0, "succeeded", False)


def test_pauses_between_retries_double_up_to_a_limit(play: Callable[..., Any], pauses: list[float]) -> None:
    play(is_lost, retries=8)
    assert pauses[:8] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_run_that_succeeds_at_its_third_attempt(play: Callable[..., Any], record: RunRecord) -> None:
    code, stage = play(is_lost, fails(("infrastructure", 4)), succeeds)
    assert (code, record.state()["state"]) == (0, "succeeded")
    assert [config.attempt for config in stage.configs] == [1, 2, 3]
    assert reasons(record)[1:] == ["infrastructure of 0", "succeeded"]


@pytest.mark.parametrize(("kind", "code"), [("user", 3), ("invalid", 2), ("store", 5), ("lease", 4)])
def test_what_another_attempt_would_not_mend_ends_the_run_at_once(
    play: Callable[..., Any], record: RunRecord, pauses: list[float], kind: str, code: int
) -> None:
    got, stage = play(fails((kind, code)))
    state = record.state()
    assert (got, state["state"], state["exit_code"]) == (code, "failed", code)
    assert (len(stage.configs), pauses) == (1, [])
    assert state["error"] == {"kind": kind, "exit_code": code, "message": f"{kind} of 0", "rank": 0, "traceback": "nets.py"}


def test_a_store_that_refuses_for_a_moment_is_tried_again_once_it_has_worked(play: Callable[..., Any], record: RunRecord) -> None:
    def refused(record: RunRecord, number: int) -> BaseException:
        document = {"kind": "store", "exit_code": 5, "message": "no credentials", "rank": 0, "traceback": "", "passing": True}
        record.store.write(record.paths.failure(record.label(number), 0), to_bytes(document))
        return RuntimeError("Ray's own words")

    code, stage = play(refused, succeeds)
    assert (code, len(stage.configs), record.state()["error"]["kind"]) == (5, 1, "store")
    record.write_state({"state": "queued", "attempts": [], "error": None})
    code, stage = play(saves(10, refused), succeeds)
    assert (code, len(stage.configs)) == (0, 2)


def test_of_several_failures_the_cause_counts_not_what_the_others_saw_of_it(play: Callable[..., Any], record: RunRecord) -> None:
    code, stage = play(fails(("infrastructure", 4), ("user", 3), ("infrastructure", 4)))
    assert (code, len(stage.configs)) == (3, 1)
    assert record.state()["error"]["rank"] == 1


def test_failures_of_earlier_attempts_are_not_taken_for_the_latests(play: Callable[..., Any], record: RunRecord) -> None:
    code, _ = play(fails(("infrastructure", 4)), is_lost, retries=1)
    assert code == 4
    assert "a node went away" in reasons(record)[1]


def test_a_cluster_that_cannot_be_joined_is_tried_again(
    play: Callable[..., Any], record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(record, [succeeds])
    failed: list[int] = []

    def connect() -> None:
        if not failed:
            failed.append(1)
            raise InfrastructureFailure("Ray did not start")

    monkeypatch.setattr(stage, "connect", connect)
    code, _ = play(stage=stage)
    assert code == 0
    assert reasons(record) == ["succeeded"]
    assert "waits, 60 s at most: Ray did not start" in [row["message"] for row in record.events()]
    assert "waiting" not in record.state()


def lost_attempts(count: int, first: int = 1) -> dict[str, Any]:
    attempts = [
        {"number": number, "workers": [], "started": time.time(), "finished": 1.0 if number < count else None, "reason": None}
        for number in range(1, count + 1)
    ]
    return {"state": "running", "attempts": attempts, "first_attempt": first, "started": 5.0, "error": None}


def test_a_driver_that_takes_over_goes_on_counting(play: Callable[..., Any], record: RunRecord) -> None:
    record.write_state(lost_attempts(2))
    code, stage = play(is_lost, retries=2)
    state = record.state()
    assert code == 4
    assert [config.attempt for config in stage.configs] == [3]
    assert state["attempts"][1]["reason"] == "the driver was lost"
    assert state["started"] == 5.0


def test_a_person_who_resumes_gets_all_retries_again(play: Callable[..., Any], record: RunRecord) -> None:
    record.write_state({**lost_attempts(2), "state": "failed"})
    code, stage = play(is_lost, fresh=True, retries=1)
    assert code == 4
    assert [config.attempt for config in stage.configs] == [3, 4]
    assert record.state()["first_attempt"] == 3


def test_what_a_run_did_before_it_was_let_pause_counts_for_its_time_but_not_for_its_retries(
    play: Callable[..., Any], record: RunRecord
) -> None:
    paused = lost_attempts(2)
    paused["attempts"][0] |= {"started": 1000.0, "finished": 1500.0, "reason": "cancelled"}
    paused["attempts"][1] |= {"started": 9000.0, "finished": 9400.0, "reason": "cancelled"}
    record.write_state({**paused, "state": "cancelled"})
    code, stage = play(*[is_lost] * 3, succeeds, retries=1, time_limit=1000)
    assert (code, [config.attempt for config in stage.configs]) == (0, [3, 4])
    record.write_state({**paused, "state": "cancelled"})
    assert play(obeys, time_limit=900.1)[0] == 3
    assert record.state()["error"]["kind"] == "time limit"


def test_a_request_to_stop_ends_the_run_and_is_cleared(play: Callable[..., Any], record: RunRecord) -> None:
    def asked_for(record: RunRecord, number: int) -> None:
        if record.progress():
            record.request_cancel()
        obeys(record, number)

    code, stage = play(asked_for)
    state = record.state()
    assert (code, state["state"], state["exit_code"], state["error"]) == (130, "cancelled", 130, None)
    assert len(stage.configs) == 1
    assert state["metrics"] == {"loss": 0.5}
    assert not record.cancel_requested()


def test_a_request_that_came_as_the_run_went_over_to_this_driver_is_honoured(play: Callable[..., Any], record: RunRecord) -> None:
    record.write_state(lost_attempts(1))
    record.request_cancel()
    code, stage = play(succeeds)
    assert (code, record.state()["state"], stage.configs) == (130, "cancelled", [])
    assert not record.cancel_requested()
    assert play(succeeds, fresh=True)[0] == 0, "what was handled is not handled again"


def test_what_the_driver_before_asked_for_itself_is_asked_for_anew(play: Callable[..., Any], record: RunRecord) -> None:
    record.request_cancel(TIME_LIMIT)
    assert play(succeeds)[0] == 0


def test_a_clock_that_is_set_forward_uses_up_no_time(
    play: Callable[..., Any], record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_time = time.time

    def set_forward(record: RunRecord, number: int) -> None:
        if not record.progress():
            record.write_progress({"attempt": number, "phase": "training"})
            monkeypatch.setattr(time, "time", lambda: true_time() + 9e5)
            raise StillRunning
        if len(looks) < 5:
            looks.append(number)
            raise StillRunning
        succeeds(record, number)

    looks: list[int] = []
    assert play(set_forward, time_limit=1000)[0] == 0
    (attempt,) = record.state()["attempts"]
    assert 0 < attempt["seconds"] < 100 < attempt["finished"] - attempt["started"]


def test_an_attempt_of_a_lost_driver_counts_as_its_lease_says(play: Callable[..., Any], record: RunRecord) -> None:
    record.write_state(lost_attempts(1))
    lost = Lease(record, details=lambda: {"attempt": {"number": 1, "seconds": 900.5}})
    assert lost.acquire()
    lost.release()
    assert play(succeeds)[0] == 0
    assert record.state()["attempts"][0]["seconds"] == 900.5


def test_a_driver_whose_successor_has_written_writes_nothing_any_more(play: Callable[..., Any], record: RunRecord) -> None:
    def successor(record: RunRecord, number: int) -> None:
        other = RunRecord(LocalStore(Path(record.store.url)), record.run_id)
        other.take_state(lambda state: {**state, "state": "succeeded", "metrics": {"by": 2.0}, "exit_code": 0})

    with pytest.raises(LeaseLost, match=r"state\.json"):
        play(successor)
    assert (record.state()["state"], record.state()["metrics"]) == ("succeeded", {"by": 2.0})


def test_a_run_that_fails_while_it_is_asked_to_stop_is_not_tried_again(play: Callable[..., Any], record: RunRecord) -> None:
    def act(record: RunRecord, number: int) -> BaseException:
        record.request_cancel()
        return RuntimeError("a node went away")

    code, stage = play(act)
    assert (code, len(stage.configs)) == (130, 1)


def test_the_time_limit_stops_the_run_and_says_how_to_go_on(play: Callable[..., Any], record: RunRecord) -> None:
    began = time.monotonic()
    code, stage = play(obeys, time_limit=0.3)
    state = record.state()
    assert 0.3 <= time.monotonic() - began < 20
    assert (code, state["state"], len(stage.configs)) == (3, "failed", 1)
    assert state["error"]["kind"] == "time limit"
    assert "The time limit of 0.3 s was reached; continue with --resume" in state["error"]["message"]
    assert not record.cancel_requested()


def test_workers_that_do_not_stop_are_not_waited_for_for_ever(
    play: Callable[..., Any], record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "CANCEL_PATIENCE", 0.2)

    def ignores(record: RunRecord, number: int) -> None:
        record.write_progress({"attempt": number, "phase": "training"})
        record.request_cancel()
        raise StillRunning

    assert play(ignores)[0] == 130


def test_a_run_is_running_once_its_workers_train(play: Callable[..., Any], record: RunRecord) -> None:
    seen: list[Any] = []

    def act(record: RunRecord, number: int) -> None:
        seen.append((record.state()["state"], record.state()["attempts"][-1]["workers"]))
        if len(seen) > 3:
            return
        record.write_progress({"attempt": number, "phase": "training", "workers": [{"rank": 0, "host": "h", "pid": 1}]})
        raise StillRunning

    play(act)
    assert seen[0] == ("starting", [])
    assert seen[-1] == ("running", [{"rank": 0, "host": "h", "pid": 1}])


def test_a_local_cluster_that_died_is_left_by_a_new_process(
    play: Callable[..., Any], record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(record, [obeys])
    stage.alive = False
    commands: list[list[str]] = []

    def replaced(path: str, argv: list[str]) -> None:
        commands.append(argv)
        raise SystemExit

    monkeypatch.setattr("os.execv", replaced)
    with pytest.raises(SystemExit):
        play(stage=stage)
    assert stage.killed
    assert reasons(record) == ["Ray's own processes on this machine were lost."]
    (argv,) = commands
    assert argv[1:6] == ["-P", "-m", "jobs.train", "--run", "a-run"]
    assert argv[-2:] == ["--lease-token", record.lease()["token"]]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lost_lease_ends_the_process(play: Callable[..., Any], record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []

    def ended(code: int) -> None:
        exits.append(code)
        raise SystemExit

    monkeypatch.setattr(heartbeat.os, "_exit", ended)
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.02)

    def another_takes_over(record: RunRecord, number: int) -> None:
        if record.lease().get("token") != "other":
            record.store.write(record.paths.lease, to_bytes({**record.lease(), "token": "other"}))
        if not exits:
            raise StillRunning

    play(another_takes_over)
    assert exits == [4]
    assert record.lease()["token"] == "other"


def test_the_heartbeat_is_renewed_while_the_run_goes_on(
    play: Callable[..., Any], record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.02)
    beats: set[float] = set()

    def act(record: RunRecord, number: int) -> None:
        beats.add(record.lease()["heartbeat"])
        if len(beats) < 4:
            raise StillRunning

    assert play(act)[0] == 0
    assert record.lease()["released"]


def test_a_stop_at_once_is_written_too(play: Callable[..., Any], record: RunRecord) -> None:
    stops = Stops()

    def stopped(record: RunRecord, number: int) -> None:
        stops.wanted.set()
        stops.at_once.set()
        raise StillRunning

    code, _ = play(stopped, stops=stops)
    state = record.state()
    assert (code, state["state"], state["exit_code"]) == (130, "cancelled", 130)
    assert state["attempts"][-1]["reason"] == "cancelled"
    assert not lease_is_live(lease_of(record))
    assert stops.ended.is_set()


class Lost(Exception):
    def __init__(self, failures: dict[int, BaseException]) -> None:
        super().__init__("many words\nof Ray")
        self.worker_failures = failures


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (Lost({2: RuntimeError("The actor died.\nmore"), 0: RuntimeError("")}), "Worker 0, 2 was lost: The actor died."),
        (Lost({1: RuntimeError("")}), "Worker 1 was lost: Lost"),
        (Lost({}), "Ray could not run the workers: many words"),
        (ValueError(), "Ray could not run the workers: ValueError"),
    ],
)
def test_rays_errors_are_one_sentence(error: BaseException, sentence: str) -> None:
    assert _describe(error) == sentence


def in_its_analysis(act: Act) -> Act:
    """An attempt that trained, tested and kept the model, and then ended as `act` does."""

    def ends(record: RunRecord, number: int) -> BaseException | None:
        metrics, members = {"test_accuracy": 0.9}, [{"rank": 0, "host": "h", "pid": number}]
        record.write_progress({"attempt": number, "phase": "trained", "step": 40, "metrics": metrics, "workers": members})
        return act(record, number)

    return ends


def is_killed(record: RunRecord, number: int) -> BaseException:
    """Before it wrote anything: what is there of progress is of the attempt before."""
    return RuntimeError("killed")


def test_an_analysis_that_was_lost_is_repeated_alone(play: Callable[..., Any], record: RunRecord) -> None:
    code, stage = play(in_its_analysis(is_lost), succeeds, retries=0)
    assert (code, record.state()["state"], record.state()["metrics"]) == (0, "succeeded", {"test_accuracy": 0.9})
    first, second = stage.configs
    assert first.trained is None
    assert second.trained == {"phase": "trained", "step": 40, "metrics": {"test_accuracy": 0.9}}
    assert "not analysed" not in [row["event"] for row in record.events()]


@pytest.mark.parametrize("second", [in_its_analysis(is_lost), is_killed, fails(("user", 3)), fails(("store", 5))])
@pytest.mark.parametrize("first", [is_lost, fails(("user", 3)), fails(("store", 5)), fails(("infrastructure", 4))])
def test_a_trained_run_succeeds_whatever_becomes_of_its_analysis(
    play: Callable[..., Any], record: RunRecord, first: Act, second: Act
) -> None:
    code, stage = play(in_its_analysis(first), second, retries=1)
    state = record.state()
    assert (code, state["state"], state["error"], state["metrics"]) == (0, "succeeded", None, {"test_accuracy": 0.9})
    assert len(stage.configs) == len(state["attempts"]) == 2
    (said,) = [row["message"] for row in record.events() if row["event"] == "not analysed"]
    assert said.endswith(", twice")


def test_a_driver_that_takes_over_goes_on_with_the_analysis_alone_and_once(play: Callable[..., Any], record: RunRecord) -> None:
    class Killed(BaseException):
        """The driver's end."""

    def takes_the_driver(record: RunRecord, number: int) -> BaseException:
        raise Killed

    for count in (1, 2):
        with pytest.raises(Killed):
            play(in_its_analysis(takes_the_driver))
        record.store.delete(record.paths.lease)
        assert [bool(attempt.get("analysis")) for attempt in record.state()["attempts"]] == [False, True][:count]
    code, stage = play(is_lost)
    assert (code, record.state()["state"], stage.configs) == (0, "succeeded", [])
    # Whoever asks for it again has it tested and analysed anew.
    code, stage = play(succeeds, fresh=True)
    assert code == 0 and [config.trained for config in stage.configs] == [None]


def test_the_time_limit_in_an_analysis_fails_no_trained_run(
    play: Callable[..., Any], record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "CANCEL_PATIENCE", 0.1)

    def goes_on(record: RunRecord, number: int) -> BaseException:
        raise StillRunning

    code, _ = play(in_its_analysis(goes_on), time_limit="1s")
    assert (code, record.state()["state"]) == (0, "succeeded")
    (said,) = [row["message"] for row in record.events() if row["event"] == "not analysed"]
    assert "The time limit of 1 s was reached" in said


def test_a_trained_run_for_whose_analysis_there_is_no_room_succeeds(
    play: Callable[..., Any], record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Leaves(Stage):
        def size(self) -> int:
            if self.configs:
                raise InfrastructureFailure("The cluster holds 0 CPUs.")
            return 2

    stage = Leaves(record, [in_its_analysis(is_lost)])
    stage.wait_limit = 0.1
    code, _ = play(stage=stage)
    assert (code, record.state()["state"], record.state()["error"]) == (0, "succeeded", None)
    assert "holds 0 CPUs" in [row["message"] for row in record.events() if row["event"] == "not analysed"][-1]
