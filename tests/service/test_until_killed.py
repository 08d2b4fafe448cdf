"""A process that waits to be killed."""

import subprocess
import sys
import time

SCRIPT = "from service.until_killed import wait_until_killed; wait_until_killed(lambda text: print(text, flush=True), {seconds}); print('over')"


def start(seconds: float) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", SCRIPT.format(seconds=seconds)], stdout=subprocess.PIPE, text=True)


def test_it_stays_whatever_sigterm_comes_and_ends_when_it_is_killed() -> None:
    process = start(60)
    assert process.stdout
    assert "waits until its pod is gone, 60 s at most" in process.stdout.readline()
    process.terminate()
    time.sleep(0.5)
    assert process.poll() is None
    process.kill()
    assert process.wait(20) == -9
    process.stdout.close()


def test_it_does_not_wait_for_ever() -> None:
    process = start(0.1)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out.splitlines()[-1]) == (0, "over")
