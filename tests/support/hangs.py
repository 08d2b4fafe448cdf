"""What a command that does not end is doing: its processes, where each of their threads stands, and what it printed last."""

import subprocess
import sys
from pathlib import Path

import psutil

LINES = 40
"""How many of the last lines of an output are told."""
DUMP_SECONDS = 60


def told(processes: list[psutil.Process], *outputs: Path) -> str:
    """Say where the processes stand and how the outputs end; what cannot be found out is said too."""
    parts = [f"== the end of {file}\n" + "\n".join(file.read_text(errors="replace").splitlines()[-LINES:]) for file in outputs]
    return "\n".join(parts + [_stacks(process) for process in processes])


def _stacks(process: psutil.Process) -> str:
    """The Python stacks of a process, or the system's words for what it waits for where it runs no Python."""
    try:
        head = f"== process {process.pid}, {process.status()}: {' '.join(process.cmdline()).strip()[:300]}"
        waits = Path(f"/proc/{process.pid}/wchan").read_text()
    except (psutil.Error, OSError) as error:
        return f"== process {process.pid}: {error}"
    if "python" not in Path(process.name()).name and not process.name().startswith(("ray::", "delayline")):
        return f"{head}\n   waits in {waits}"
    dump = [str(Path(sys.executable).parent / "py-spy"), "dump", "--pid", str(process.pid)]
    try:
        done = subprocess.run(dump, capture_output=True, text=True, timeout=DUMP_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{head}\n   waits in {waits}; {error}"
    return f"{head}\n{done.stdout or done.stderr}"
