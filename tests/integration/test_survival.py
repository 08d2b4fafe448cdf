"""A run that is killed, cancelled or cut off ends bit for bit like the run `calm`, which was left alone."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support import s3_servers
from support.workspace import COMMAND_SECONDS, Workspace, assert_same_end, command_of, family, kill

from service.records.lease import LEASE_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def last_worker(command: int, run: dict) -> list[psutil.Process]:
    return [psutil.Process(run["attempts"][-1]["workers"][-1]["pid"])]


def first_worker(command: int, run: dict) -> list[psutil.Process]:
    return [psutil.Process(run["attempts"][-1]["workers"][0]["pid"])]


def driver(command: int, run: dict) -> list[psutil.Process]:
    return [process for process in family(command) if "jobs.train" in command_of(process)][:1]


def all_of_ray(command: int, run: dict) -> list[psutil.Process]:
    (leader,) = driver(command, run)
    return leader.children(recursive=True)


def everything(command: int, run: dict) -> list[psutil.Process]:
    return family(command)


def saved_by(run: dict) -> int:
    """The attempt that saved the newest checkpoint, which its folder names behind the step."""
    return int(Path(run["checkpoints"][-1]["path"]).name.split("-")[1])


def test_kills_change_nothing_nor_does_a_damaged_checkpoint(workspace: Workspace, calm: Workspace) -> None:
    """One run, killed in every way, each time after the attempt saved a checkpoint."""
    process = workspace.start("train", "run.yaml", "--name", "killed", "--json")
    for attempt, victims in enumerate((last_worker, first_worker, driver, all_of_ray, everything), 1):
        run = workspace.wait_for("killed", lambda run, attempt=attempt: saved_by(run) == attempt)
        assert len(run["attempts"]) == attempt, [each["reason"] for each in run["attempts"]]
        kill(victims(process.pid, run))
    process.wait()
    checkpoint = workspace.show("killed")["checkpoints"][-1]
    newest = checkpoint["step"]
    file = Path(workspace.store_url) / checkpoint["path"] / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    left = file.parent.parent / f"{newest + 10:010d}"
    left.mkdir(exist_ok=True)
    (left / "model.safetensors").write_bytes(b"a crash left this")
    done = workspace.delayline("train", "run.yaml", "--name", "killed", "--json")
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    assert done.document["state"] == "succeeded"
    assert len(done.document["attempts"]) == 6, [attempt["reason"] for attempt in done.document["attempts"]]
    events = [(row["event"], row.get("step")) for row in done.document["events"]]
    assert ("checkpoint damaged", newest) in events
    assert [0 < step < newest for event, step in events if event == "resumed"][-1]
    assert_same_end(workspace, "killed", calm)
    names = {int(path.name.partition("-")[0]) for path in file.parent.parent.iterdir()}
    assert names == {checkpoint["step"] for checkpoint in done.document["checkpoints"]}


def test_an_interrupt_saves_and_resume_continues(workspace: Workspace, calm: Workspace) -> None:
    process = workspace.start("train", "run.yaml", "--name", "stopped", "--json")
    workspace.wait_for_step("stopped", 40)
    process.send_signal(signal.SIGINT)
    done = workspace.end_of(process)
    assert done.code == 130, done.err
    assert done.document["state"] == "cancelled"
    assert "Traceback" not in done.err
    without = workspace.delayline("train", "run.yaml", "--name", "stopped")
    assert without.code == 2
    assert "--resume" in without.err
    process = workspace.start("train", "--name", "stopped", "--resume", "--json")
    workspace.wait_for_step("stopped", done.document["checkpoints"][-1]["step"] + 10)
    assert workspace.delayline("runs", "cancel", "stopped").code == 0
    assert workspace.end_of(process).code == 130
    done = workspace.delayline("train", "--name", "stopped", "--resume", "--json")
    assert done.code == 0, done.err
    assert_same_end(workspace, "stopped", calm)


WAITS = """
import os, time
import keras
from nets import Slow, build

class Waits(Slow):
    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        self.done = getattr(self, "done", 0) + 1
        if self.done == 50 and '"index": 1' in os.environ.get("TF_CONFIG", "") and not os.path.exists(FLAG):
            open(FLAG, "w").close()
            time.sleep(600)
"""


def test_a_callback_of_one_worker_that_waits_for_ever_ends_the_attempt_with_the_stacks_of_all(
    workspace: Workspace, calm: Workspace
) -> None:
    """Rank 0 stands in the collective meanwhile."""
    (workspace.folder / "waits.py").write_text(WAITS.replace("FLAG", repr(str(workspace.folder / "waited"))))
    spec = (workspace.folder / "run.yaml").read_text().replace("nets:Slow", "waits:Waits")
    (workspace.folder / "run.yaml").write_text(spec)
    done = workspace.delayline("train", "run.yaml", "-s", "stall_limit=10s", "--name", "still", "--json")
    assert done.code == 0, done.err
    first, second = done.document["attempts"]
    assert "stalled for" in first["reason"]
    assert second["reason"] == "succeeded"
    logs = [workspace.delayline("runs", "logs", "still", "--attempt", "1", "--rank", rank).out for rank in ("0", "1")]
    assert all("Current thread" in log or "Thread 0x" in log for log in logs), logs
    assert "waits.py" in logs[1]
    assert_same_end(workspace, "still", calm)


def test_a_store_that_is_away_for_longer_than_a_lease_delays_the_run(tmp_path: Path, calm: Workspace) -> None:
    with s3_servers.running(s3_servers.seaweedfs(tmp_path / "server")) as server:
        workspace = Workspace(tmp_path / "workspace", f"s3://{server.bucket()}/lab", server.environment)
        try:
            process = workspace.start("train", "run.yaml", "--name", "patient", "--json")
            workspace.wait_for_step("patient", 60)
            server.stop()
            time.sleep(LEASE_SECONDS + 10)
            assert process.poll() is None
            server.start()
            done = workspace.end_of(process)
        finally:
            workspace.clean_up()
        assert done.code == 0, done.err
        assert len(done.document["attempts"]) == 1
        assert_same_end(workspace, "patient", calm)


def test_those_that_start_at_once_train_once(workspace: Workspace, calm: Workspace) -> None:
    """Commands, and drivers without a command before them: one gets the lease, the others attach and end with the same code."""
    both = [workspace.start("train", "run.yaml", "--name", "once", "--json") for _ in range(2)]
    arguments = [sys.executable, "-m", "jobs.train", "run.yaml", "--name", "once", "--store", workspace.store_url]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    drivers = [
        subprocess.Popen(
            arguments, cwd=workspace.folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=COMMAND_SECONDS)[1] for process in drivers]
    assert [process.returncode for process in drivers] == [0, 0], said
    assert sum("driven by another process" in text for text in said) >= 1, said
    ends = [workspace.end_of(process) for process in both]
    assert [done.code for done in ends] == [0, 0], [done.err for done in ends]
    assert ends[0].document["finished"] == ends[1].document["finished"]
    assert len(ends[0].document["attempts"]) == 1
    assert_same_end(workspace, "once", calm)
    again = workspace.delayline("train", "run.yaml", "--name", "once", "--json")
    assert again.document["finished"] == ends[0].document["finished"]
    other = workspace.delayline("train", "run.yaml", "-s", "seed=8", "--name", "once")
    assert other.code == 2
    assert "seed is 7 there, 8 here" in other.err


def test_a_process_of_ray_that_stands_still_as_it_starts_delays_the_run(workspace: Workspace) -> None:
    """Ray waits for it for ever."""
    workspace.environment["DELAYLINE_WAIT_LIMIT"] = "60"
    process = workspace.start("train", "run.yaml", "-s", "steps=20", "-s", "callbacks=[]", "--name", "late", "--json")
    stopped = None
    while stopped is None:
        assert process.poll() is None
        for child in family(process.pid):
            with contextlib.suppress(psutil.Error):
                if child.name().startswith("ray::IDLE"):
                    child.suspend()
                    stopped = child
                    break
    done = workspace.end_of(process)
    assert (done.code, "another one is started" in done.err) == (0, True), done.err
    assert not psutil.pid_exists(stopped.pid)
