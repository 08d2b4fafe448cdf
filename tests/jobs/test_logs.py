"""A worker's log."""

import subprocess
import sys
from pathlib import Path

CAPTURE = """
import os, sys
from pathlib import Path
from jobs.logs import capture_output
capture_output(Path(sys.argv[1]))
print("from Python")
os.write(2, b"from C\\n")
os.system("echo from a child")
"""


def test_everything_that_a_process_prints_is_captured(tmp_path: Path) -> None:
    log = tmp_path / "folder" / "worker.log"
    done = subprocess.run([sys.executable, "-c", CAPTURE, str(log)], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert set(log.read_text().splitlines()) == {"from Python", "from C", "from a child"}
