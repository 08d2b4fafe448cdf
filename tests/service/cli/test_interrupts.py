"""Ctrl-C at the command as a process of its own, whose store, a real server, stands still."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import s3_servers

from service.cluster.base import Job
from service.records.run_record import RunRecord
from service.settings import Settings
from service.storage import open_store

COMMAND = """
import json, sys
from pathlib import Path
from service.submission import plan
from service.cli.main import entry
from service.cluster.base import Job
from service.cluster.driver_jobs import DRIVERS

DRIVERS["train"] = "fake_driver"
store, environment = json.loads(sys.argv[1])
plan.driver_job = lambda *arguments: Job("train", "fake", store, Path.cwd(), environment=environment)
sys.argv = ["delayline", *sys.argv[2:]]
entry()
"""
TRAIN = ("train", "--name", "fake", "-s", "worker.cpus=0.01")


@pytest.fixture
def bucket(seaweedfs: s3_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in seaweedfs.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{seaweedfs.bucket()}/lab"


@contextlib.contextmanager
def frozen(server: s3_servers.S3Server) -> Iterator[None]:
    """Within it the server takes connections and never answers."""
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "json"])
def test_a_second_ctrl_c_ends_the_command_and_its_driver_while_the_store_stands_still(
    bucket: str, seaweedfs: s3_servers.S3Server, fake_driver: Callable[..., Job], tmp_path: Path, more: tuple[str, ...]
) -> None:
    record = RunRecord(open_store(Settings.load(store=bucket)), "fake")
    (tmp_path / "command.py").write_text(COMMAND)
    job = fake_driver(record.store.url, "fake", "stubborn")
    driver = json.dumps([job.store_url, dict(job.environment)])
    process = subprocess.Popen(
        [sys.executable, tmp_path / "command.py", driver, *TRAIN, *more, "--store", bucket], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while not record.progress().attempt and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        workers = record.progress().workers
        with frozen(seaweedfs):
            # Long enough for a look at the store that is under way, and for one that reads several objects at a time.
            time.sleep(2.5)
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            assert process.poll() is None
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
            assert time.monotonic() - began < 2
        with pytest.raises(ProcessLookupError):
            os.kill(workers[0].pid, 0)
    finally:
        process.kill()
        _, err = process.communicate()
    assert "delayline train --resume --name fake" in err
    assert "Traceback" not in err
    end = time.monotonic() + 60
    while record.state().state != "cancelled" and time.monotonic() < end:
        time.sleep(0.1)
    assert record.state().state == "cancelled"


def test_a_command_that_is_stopped_does_not_wait_for_its_threads(tmp_path: Path) -> None:
    code = "from concurrent.futures import ThreadPoolExecutor\nimport time, sys\nfrom service.cli import main\n"
    code += "pool = ThreadPoolExecutor(1)\npool.submit(time.sleep, 30)\n"
    code += "def stopped(arguments):\n    print('said')\n    raise KeyboardInterrupt\nmain._call = stopped\nmain.entry()\n"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (130, "said\n")
