"""Peak memory of a worker beyond the training itself, for a model of 500 MB of weights with Adam, in units of its state.

usage: uv run python tests/benchmarks/checkpoint_memory.py [--units 11180] [--rate 40]
The state is the weights and the optimizer's variables, 1.5 GB. The training itself is what the worker took at the highest
before its first checkpoint. Checkpoints and the model go to MinIO; once more through a proxy that lets RATE MB/s pass.
"""

import argparse
import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from common import delayline, heading, minio_store

STEPS, EVERY = 9, 3
NETS = """
import keras

def build(shape, classes, **params):
    layers = [keras.layers.Flatten(), keras.layers.Dense({units}), keras.layers.Dense({units}), keras.layers.Dense(classes)]
    return keras.Sequential([keras.Input(shape), *layers])

class Notes(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == {every} - 1:
            high = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1]
            open("{notes}", "w").write(high)
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--units", type=int, default=11_180, help="of two layers: 11,180 are 500 MB of weights")
    parser.add_argument("--rate", type=float, default=40.0, help="MB/s of the slow store")
    options = parser.parse_args()
    weights = 4 * (options.units * options.units + 76 * options.units)
    state = 3 * weights
    heading(f"peak memory of a worker beyond its training, {weights / 1e6:.0f} MB of weights, {state / 1e6:.0f} MB of state")
    with minio_store() as (store, environment):
        for name in ("fast", "slow"):
            with contextlib.ExitStack() as stack:
                reached = dict(environment)
                if name == "slow":
                    reached["DELAYLINE_S3_ENDPOINT"] = stack.enter_context(
                        throttled(environment["DELAYLINE_S3_ENDPOINT"], options.rate)
                    )
                trained, peak = peaks(store, reached, options.units, name)
            share = (peak - trained) / state
            print(
                f"{name} store: training {trained / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB, beyond it {share:.2f} times the state",
                flush=True,
            )


def peaks(store: str, environment: dict[str, str], units: int, name: str) -> tuple[float, float]:
    """Bytes at the highest before the first checkpoint, and over the whole run."""
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes"
        (Path(folder) / "nets.py").write_text(NETS.format(units=units, every=EVERY, notes=notes))
        highest: dict[int, int] = {}
        done = threading.Event()
        thread = threading.Thread(target=watch, args=(highest, done))
        thread.start()
        keys = ["model=nets:build", "dataset=digits", f"steps={STEPS}", "batch=8", f"checkpoint.every_steps={EVERY}"]
        keys += ["evaluate.validation=0", "worker.cpus=2", 'callbacks=[{name: "nets:Notes"}]']
        changes = [part for key in keys for part in ("-s", key)]
        try:
            run = delayline(
                "train", "cnn-digits", *changes, "--workers", "1", "--name", f"memory-{name}", "--json",
                store=store, environment=environment, folder=Path(folder),
            )  # fmt: skip
        finally:
            done.set()
            thread.join()
        pid = run["attempts"][-1]["workers"][0]["pid"]
        return 1024.0 * int(notes.read_text()), 1024.0 * highest[pid]


def watch(highest: dict[int, int], done: threading.Event) -> None:
    """Note VmHWM, in KiB, of each worker below this process."""
    while not done.wait(0.05):
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error, OSError, IndexError):
                if process.name().startswith("ray::"):
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    highest[process.pid] = int(status.split("VmHWM:")[1].split()[0])


@contextlib.contextmanager
def throttled(endpoint: str, rate: float) -> Iterator[str]:
    """The address of a proxy before `endpoint` through which `rate` MB/s go to the server, on all connections together."""
    target = urlsplit(endpoint)
    listener = socket.create_server(("127.0.0.1", 0))
    lock = threading.Lock()

    def pump(source: socket.socket, sink: socket.socket, slow: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(64 * 1024):
                if slow:
                    with lock:
                        time.sleep(len(data) / rate / 1e6)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((target.hostname, target.port))
                threading.Thread(target=pump, args=(client, server, True), daemon=True).start()
                threading.Thread(target=pump, args=(server, client, False), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


if __name__ == "__main__":
    main()
