"""Streaming against memory: speed on CIFAR-10, and the peak memory of a worker that streams a larger dataset.

usage: uv run python tests/benchmarks/streaming.py speed [--data FOLDER] [--rounds 3]
       uv run python tests/benchmarks/streaming.py memory [--gigabytes 4]
"""

import argparse
import contextlib
import hashlib
import shutil
import statistics
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from common import examples_per_second, heading, import_dataset, scratch_store, train

SIDE = 64
"""Pixels of the synthetic images' sides."""
BATCH = 64
EPOCHS = 1.1
"""That much is trained for the peak of memory: every shard is read, and the shuffle begins anew."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["speed", "memory"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400, help="of each run whose speed is measured")
    parser.add_argument("--gigabytes", type=float, default=4.0)
    options = parser.parse_args()
    store = scratch_store()
    environment = {"DELAYLINE_CACHE": tempfile.mkdtemp(prefix="delayline-benchmark-cache-")}
    try:
        if options.what == "speed":
            speed(store, options.data, options.rounds, options.steps, environment)
        else:
            memory(store, options.gigabytes, environment)
    finally:
        shutil.rmtree(store, ignore_errors=True)
        shutil.rmtree(environment["DELAYLINE_CACHE"], ignore_errors=True)


def speed(store: str, data: Path | None, rounds: int, steps: int, environment: dict[str, str]) -> None:
    """Examples a second of `cnn-cifar10` with one worker, both ways in turn."""
    heading(f"examples a second of cnn-cifar10 over {steps} steps, 1 worker of 2 CPUs, streamed and from memory")
    import_dataset("cifar10", data / "cifar-10-batches-py" if data else None, store)
    rates: dict[str, list[float]] = {"stream": [], "memory": []}
    length = ("epochs=null", f"steps={steps}", "worker.cpus=2", "log_every=25")
    for number in range(rounds):
        for way in ("stream", "memory") if number % 2 == 0 else ("memory", "stream"):
            run = train("cnn-cifar10", store, *length, f"input={way}", environment=environment)
            rates[way].append(examples_per_second(run, skip_rows=2))
        print(f"  round {number + 1}: stream {rates['stream'][-1]:.0f}, memory {rates['memory'][-1]:.0f}", flush=True)
    ours, theirs = statistics.median(rates["stream"]), statistics.median(rates["memory"])
    print(f"median: stream {ours:.0f}, memory {theirs:.0f}, ratio {ours / theirs:.3f}")


def memory(store: str, gigabytes: float, environment: dict[str, str]) -> None:
    """Peak resident memory of the worker, and of Ray Data's processes beside it."""
    heading(f"peak memory of a worker that streams {gigabytes:g} GB of images {SIDE}x{SIDE}x3, batch {BATCH}")
    images = make_images(store, gigabytes)
    steps = int(EPOCHS * images * 0.99 / BATCH)
    peaks: dict[int, tuple[str, float]] = {}
    network = ("model_params={filters: [4, 8], kernel: 3, units: 16}", f"batch={BATCH}", "augment=[]")
    length = ("dataset=synthetic", "epochs=null", f"steps={steps}", "evaluate.validation=0.01")
    with watched(peaks):
        run = train("cnn-cifar10", store, *network, *length, "worker.cpus=2", "input=stream", environment=environment)
    worker = run["attempts"][-1]["workers"][0]["pid"]
    print(f"{images} images, {steps} steps, {examples_per_second(run):.0f} examples/s; worker {peaks.pop(worker)[1]:.0f} MiB")
    for name, peak in sorted(peaks.values()):
        print(f"  beside it: {name} {peak:.0f} MiB")


def make_images(store: str, gigabytes: float) -> int:
    """Write the dataset `synthetic` shard by shard, so that it is never in memory whole; return its training images."""
    import numpy as np

    from service.datasets import Feature, Manifest, Shard
    from service.datasets.shards import encode, rows_per_shard
    from service.settings import Settings
    from service.storage import open_store
    from service.storage.json_documents import to_bytes
    from service.storage.paths import DatasetPaths

    features, classes = (Feature("image", "uint8", (SIDE, SIDE, 3), 255.0),), tuple("0123456789")
    opened, paths = open_store(Settings.load(store=store)), DatasetPaths("synthetic", "noise")
    rows = rows_per_shard(features)
    count = max(1, round(gigabytes * 1e9 / (rows * SIDE * SIDE * 3)))

    def write(job: tuple[str, int, int]) -> Shard:
        split, index, total = job
        generator = np.random.default_rng([index, len(split)])
        images = np.frombuffer(generator.bytes(rows * SIDE * SIDE * 3), np.uint8).reshape(rows, SIDE, SIDE, 3)
        data = bytes(encode(features, {"image": images}, generator.integers(0, 10, rows).astype(np.int32)))
        opened.write(paths.shard(split, index, total), data)
        return Shard(split, paths.shard(split, index, total), rows, len(data), hashlib.sha256(data).hexdigest())

    with ThreadPoolExecutor(2) as pool:
        shards = tuple(pool.map(write, [*(("train", index, count) for index in range(count)), ("test", 0, 1)]))
    splits = {"train": count * rows, "test": rows}
    manifest = Manifest("synthetic", "noise", features, classes, splits, shards)
    opened.write(paths.manifest, to_bytes(manifest.document()))
    return count * rows


@contextlib.contextmanager
def watched(peaks: dict[int, tuple[str, float]]) -> Iterator[None]:
    """Note the name and the peak of resident memory, in MiB, of each of Ray's processes below this one."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error, OSError, IndexError):
                    if process.name().startswith("ray::"):
                        status = Path(f"/proc/{process.pid}/status").read_text()
                        peaks[process.pid] = (process.cmdline()[0], int(status.split("VmHWM:")[1].split()[0]) / 1024)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    main()
