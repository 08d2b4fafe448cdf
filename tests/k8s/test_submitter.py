"""KubeRay's submitter with what the image gives its bash to read first, before a `ray` that answers as Ray does."""

import subprocess
from pathlib import Path

import pytest
from support.kube_images import ROOT

FAKE_RAY = """#!/bin/bash
printf '%s\\n' "$*" >> {folder}/calls
case $2 in
  status) exit {known} ;;
  logs) cat {folder}/log; exit {end} ;;
esac
"""
KUBERAY = (
    "if ! ray job status --address http://head:8265 cnn-1 >/dev/null 2>&1 ; then ray job submit --address http://head:8265 --no-wait "
    "--submission-id cnn-1 -- exec python -m jobs.train ; fi ; ray job logs --address http://head:8265 --follow cnn-1"
)
"""As KubeRay 1.6.2 writes it."""


def submitted(folder: Path, log: str, known: int = 1, end: int = 0) -> tuple[int, list[str]]:
    """The exit code of the submitter's script, and with what it called `ray`."""
    (folder / "log").write_text(log)
    (folder / "ray").write_text(FAKE_RAY.format(folder=folder, known=known, end=end))
    (folder / "ray").chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "BASH_ENV": str(ROOT / "k8s" / "image" / "submitter.sh")}
    done = subprocess.run(
        ["/bin/bash", "-ce", "--", KUBERAY], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == (log, "")
    return done.returncode, (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize(
    ("log", "end", "code"),
    [
        ("0:1 trains\n2026-11-29 SUCC cli.py:66 -- \x1b[32mJob 'cnn-1' succeeded\x1b[39m\n", 0, 0),
        ("Job 'cnn-1' failed\n", 0, 0),
        ("Job 'cnn-1' was stopped\n", 0, 0),
        # A head that is told to end closes the log in good order.
        ("WebSocket closed for job cnn-1 with close code 1000\nStatus for job 'cnn-1': RUNNING\n", 0, 1),
        ("Job 'cnn-1' submitted successfully\n", 1, 1),
        ("Job 'cnn-10' succeeded\n", 0, 1),
    ],
)
def test_the_submitter_ends_well_once_the_job_has_ended_and_not_before(tmp_path: Path, log: str, end: int, code: int) -> None:
    found, calls = submitted(tmp_path, log, end=end)
    assert found == code
    assert [call.split()[1] for call in calls] == ["status", "submit", "logs"]
    assert calls[1].endswith("--no-wait --submission-id cnn-1 -- exec python -m jobs.train")


def test_the_submitter_follows_what_the_head_knows(tmp_path: Path) -> None:
    code, calls = submitted(tmp_path, "Job 'cnn-1' succeeded\n", known=0)
    assert (code, [call.split()[1] for call in calls]) == (0, ["status", "logs"])
