"""Real workers of a ring on this machine, without Ray: processes of one program, each with its rank."""

import inspect
import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [made.getsockname()[1] for made in sockets]
    for made in sockets:
        made.close()
    return ports


def work(folder: Path, workers: int, program: str, seconds: float = 150) -> list[dict[str, Any]]:
    """What each rank left, pickled, in `folder / f"out-{workers}-{rank}"`; the program is called with rank, workers and folder."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    processes = []
    for rank in range(workers):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(config), "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
        command = [sys.executable, "-c", inspect.cleandoc(program), str(rank), str(workers), str(folder)]
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    try:
        outputs = [process.communicate(timeout=seconds)[0].decode() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * workers, "\n".join(outputs)[-4000:]
    return [pickle.loads((folder / f"out-{workers}-{rank}").read_bytes()) for rank in range(workers)]
