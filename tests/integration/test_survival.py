"""A run that is killed, cancelled or cut off ends bit for bit like the run `calm`, which was left alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import s3_servers
from desk import COMMAND_SECONDS, Desk, assert_same_end, command_of, family, kill

pytestmark = pytest.mark.slow

Processes = Callable[[int, dict], list[psutil.Process]]


def last_worker(command: int, run: dict) -> list[psutil.Process]:
    return [psutil.Process(run["attempts"][-1]["workers"][-1]["pid"])]


def first_worker(command: int, run: dict) -> list[psutil.Process]:
    return [psutil.Process(run["attempts"][-1]["workers"][0]["pid"])]


def driver(command: int, run: dict) -> list[psutil.Process]:
    return [process for process in family(command) if "jobs.train" in command_of(process)][:1]


def all_of_ray(command: int, run: dict) -> list[psutil.Process]:
    (leader,) = driver(command, run)
    return leader.children(recursive=True)


@pytest.mark.parametrize("victims", [last_worker, first_worker, driver, all_of_ray], ids=lambda victims: victims.__name__)
def test_a_kill_changes_nothing(desk: Desk, calm: Desk, victims: Processes) -> None:
    process = desk.start("train", "run.yaml", "--name", "killed", "--json")
    run = desk.wait_for_step("killed", 60)
    kill(victims(process.pid, run))
    done = desk.end_of(process)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    assert done.document["state"] == "succeeded"
    assert len(done.document["attempts"]) == 2, [attempt["reason"] for attempt in done.document["attempts"]]
    assert_same_end(desk, "killed", calm)


def test_everything_is_killed_and_the_newest_checkpoint_damaged(desk: Desk, calm: Desk) -> None:
    process = desk.start("train", "run.yaml", "--name", "killed", "--json")
    desk.wait_for_step("killed", 80)
    kill(family(process.pid))
    process.wait()
    checkpoint = desk.show("killed")["checkpoints"][-1]
    newest = checkpoint["step"]
    file = Path(desk.store_url) / checkpoint["path"] / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    left = file.parent.parent / f"{newest + 20:010d}"
    left.mkdir(exist_ok=True)
    (left / "model.safetensors").write_bytes(b"a crash left this")
    done = desk.delayline("train", "run.yaml", "--name", "killed", "--json")
    assert done.code == 0, done.err
    events = [(row["event"], row.get("step")) for row in done.document["events"]]
    assert ("checkpoint damaged", newest) in events
    assert any(event == "resumed" and 0 < step < newest for event, step in events if step is not None)
    assert_same_end(desk, "killed", calm)
    names = {int(path.name.partition("-")[0]) for path in file.parent.parent.iterdir()}
    assert names == {checkpoint["step"] for checkpoint in done.document["checkpoints"]}


def test_an_interrupt_saves_and_resume_goes_on(desk: Desk, calm: Desk) -> None:
    process = desk.start("train", "run.yaml", "--name", "stopped", "--json")
    desk.wait_for_step("stopped", 40)
    process.send_signal(signal.SIGINT)
    done = desk.end_of(process)
    assert done.code == 130, done.err
    assert done.document["state"] == "cancelled"
    assert "Traceback" not in done.err
    without = desk.delayline("train", "run.yaml", "--name", "stopped")
    assert without.code == 2
    assert "--resume" in without.err
    process = desk.start("train", "--name", "stopped", "--resume", "--json")
    desk.wait_for_step("stopped", 100)
    assert desk.delayline("runs", "cancel", "stopped").code == 0
    assert desk.end_of(process).code == 130
    done = desk.delayline("train", "--name", "stopped", "--resume", "--json")
    assert done.code == 0, done.err
    assert_same_end(desk, "stopped", calm)


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


def test_a_callback_of_one_worker_that_waits_for_ever_ends_the_attempt_with_the_stacks_of_all(desk: Desk, calm: Desk) -> None:
    """Rank 0 stands in the collective meanwhile."""
    (desk.folder / "waits.py").write_text(WAITS.replace("FLAG", repr(str(desk.folder / "waited"))))
    spec = (desk.folder / "run.yaml").read_text().replace("nets:Slow", "waits:Waits")
    (desk.folder / "run.yaml").write_text(spec)
    done = desk.delayline("train", "run.yaml", "-s", "stall_limit=10s", "--name", "still", "--json")
    assert done.code == 0, done.err
    first, second = done.document["attempts"]
    assert "did not get on for" in first["reason"]
    assert second["reason"] == "succeeded"
    logs = [desk.delayline("runs", "logs", "still", "--attempt", "1", "--rank", rank).out for rank in ("0", "1")]
    assert all("Current thread" in log or "Thread 0x" in log for log in logs), logs
    assert "waits.py" in logs[1]
    assert_same_end(desk, "still", calm)


def test_a_store_that_is_away_for_a_minute_delays_the_run(tmp_path: Path, calm: Desk) -> None:
    with s3_servers.running(s3_servers.seaweedfs(tmp_path / "server")) as server:
        desk = Desk(tmp_path / "desk", f"s3://{server.bucket()}/lab", server.environment)
        try:
            process = desk.start("train", "run.yaml", "--name", "patient", "--json")
            desk.wait_for_step("patient", 60)
            server.stop()
            time.sleep(60)
            assert process.poll() is None
            server.start()
            done = desk.end_of(process)
        finally:
            desk.clean_up()
        assert done.code == 0, done.err
        assert len(done.document["attempts"]) == 1
        assert_same_end(desk, "patient", calm)


def test_two_that_start_at_once_train_once(desk: Desk, calm: Desk) -> None:
    both = [desk.start("train", "run.yaml", "--name", "twice", "--json") for _ in range(2)]
    ends = [desk.end_of(process) for process in both]
    assert [done.code for done in ends] == [0, 0], [done.err for done in ends]
    assert ends[0].document["finished"] == ends[1].document["finished"]
    assert len(ends[0].document["attempts"]) == 1
    assert_same_end(desk, "twice", calm)
    again = desk.delayline("train", "run.yaml", "--name", "twice", "--json")
    assert again.document["finished"] == ends[0].document["finished"]
    other = desk.delayline("train", "run.yaml", "-s", "seed=8", "--name", "twice")
    assert other.code == 2
    assert "seed is 7 there, 8 here" in other.err


def test_two_drivers_of_one_run(desk: Desk, calm: Desk) -> None:
    """Without the command line in between: one gets the lease, the other attaches and ends with the same code."""

    arguments = [sys.executable, "-m", "jobs.train", "run.yaml", "--name", "leased", "--store", desk.store_url]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    both = [
        subprocess.Popen(
            arguments, cwd=desk.folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=COMMAND_SECONDS)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("driven by another process" in text for text in said) == 1, said
    assert len(desk.show("leased")["attempts"]) == 1
    assert_same_end(desk, "leased", calm)
