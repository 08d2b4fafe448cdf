"""Peak memory of a worker that trains on CIFAR-10, against a process that imported TensorFlow and holds the arrays.

usage: uv run python tests/benchmarks/memory.py --data FOLDER
"""

import argparse
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from common import heading, import_dataset, scratch_store, train

BASELINE = """
import sys
import tensorflow, keras
import numpy as np
arrays = [np.zeros((60000, 32, 32, 3), np.uint8) + 1, np.zeros(60000, np.int32) + 1]
print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1])
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    heading("peak memory of a worker that holds CIFAR-10")
    store = scratch_store()
    import_dataset("cifar10", options.data / "cifar-10-batches-py" if options.data else None, store)
    baseline = int(subprocess.run([sys.executable, "-c", BASELINE], capture_output=True, text=True, check=True).stdout) / 1024
    peak = worker_peak(store)
    print(f"worker {peak:.0f} MiB, TensorFlow and the arrays {baseline:.0f} MiB, ratio {peak / baseline:.3f}")


def worker_peak(store: str) -> float:
    """MiB at the highest, read from the worker's own /proc entry while the run lasts."""
    import psutil

    peaks: dict[int, int] = {}
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                try:
                    if process.name().startswith("ray::"):
                        status = Path(f"/proc/{process.pid}/status").read_text()
                        peaks[process.pid] = int(status.split("VmHWM:")[1].split()[0])
                except (psutil.Error, OSError, IndexError):
                    continue

    thread = threading.Thread(target=look)
    thread.start()
    cache = {"DELAYLINE_CACHE": tempfile.mkdtemp(prefix="delayline-benchmark-cache-")}
    run = train("cnn-cifar10", store, "epochs=1", "worker.cpus=2", environment=cache)
    done.set()
    thread.join()
    return peaks[run["attempts"][-1]["workers"][0]["pid"]] / 1024


if __name__ == "__main__":
    main()
