"""What the benchmarks share: the command line in a scratch store, medians, and the processor's name beside each figure."""

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

COMMAND_LIMIT = 4 * 3600


def processor() -> str:
    """The processor's name, the cores that this process may use, and its vector extensions."""
    name, flags = platform.processor() or platform.machine(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = dict(line.split(":", 1) for line in cpuinfo.read_text().split("\n\n")[0].splitlines() if ":" in line)
        values = {key.strip(): value.strip() for key, value in fields.items()}
        name = values.get("model name", name)
        flags = ", ".join(
            flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in values.get("flags", "").split()
        )
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {flags or 'no AVX2'}"


def heading(title: str) -> None:
    """Print what is measured and on what."""
    print(f"# {title}\n# {processor()}", flush=True)


def median_ratio(
    first: Callable[[], float], second: Callable[[], float], rounds: int, unit: str, names: tuple[str, str]
) -> float:
    """Measure both sides in turn, `rounds` times; print both medians and their ratio (first / second), and return it."""
    pairs = []
    for number in range(rounds):
        pair = (first(), second()) if number % 2 == 0 else tuple(reversed((second(), first())))
        pairs.append(pair)
        print(f"  round {number + 1}: {names[0]} {pair[0]:.4g} {unit}, {names[1]} {pair[1]:.4g} {unit}", flush=True)
    medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
    ratio = medians[0] / medians[1]
    print(f"median: {names[0]} {medians[0]:.4g} {unit}, {names[1]} {medians[1]:.4g} {unit}, ratio {ratio:.3f}", flush=True)
    return ratio


def delayline(*arguments: str, store: str, environment: dict[str, str] | None = None, folder: Path | None = None) -> Any:
    """Run the command line; return its JSON document when `--json` is among the arguments."""
    done = subprocess.run(
        [sys.executable, "-m", "service.cli.main", *arguments],
        env={**os.environ, "DELAYLINE_STORE": store, **(environment or {})},
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=COMMAND_LIMIT,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"delayline {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout) if "--json" in arguments else done.stdout


def train(recipe: str, store: str, *settings: str, workers: int = 1, environment: dict[str, str] | None = None) -> Any:
    """Train a recipe with `KEY=VALUE` settings; return the run's document."""
    changes = [part for setting in settings for part in ("-s", setting)]
    name = f"bench-{time.time_ns() % 10**12}"
    return delayline(
        "train", recipe, *changes, "--workers", str(workers), "--name", name, "--json", store=store, environment=environment
    )


def scratch_store() -> str:
    """A new folder for a store, below the system's temporary folder."""
    return tempfile.mkdtemp(prefix="delayline-benchmark-")


def import_dataset(name: str, source: Path | None, store: str, environment: dict[str, str] | None = None) -> None:
    """Import a dataset from a folder, or from its public address."""
    origin = ["--from", str(source)] if source else []
    delayline("data", "import", name, *origin, store=store, environment=environment)


def make_noise(store: str, count: int, environment: dict[str, str] | None = None) -> None:
    """Import `noise`, a dataset of MNIST's shapes with `count` training images: its content does not matter to the speed."""
    import numpy as np

    generator = np.random.default_rng(0)
    arrays = {}
    for split, rows in (("train", count), ("test", 256)):
        arrays[f"x_{split}"] = generator.integers(0, 256, (rows, 28, 28, 1), dtype=np.uint8)
        arrays[f"y_{split}"] = generator.integers(0, 10, rows)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "noise.npz"
        np.savez(file, **arrays)
        delayline("data", "import", "noise", "--from", str(file), "--format", "npz", store=store, environment=environment)


def find_test_modules() -> None:
    """Let what the tests share be imported."""
    # The root goes first: tests/service would hide the package of that name.
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]


@contextlib.contextmanager
def minio_store() -> Iterator[tuple[str, dict[str, str]]]:
    """A bucket on a MinIO server of its own: the store's URL, and the environment that reaches it."""
    find_test_modules()
    from support import s3_servers

    binary = s3_servers.minio_binary()
    if binary is None:
        raise SystemExit("MinIO is not there: run `just minio` first")
    with tempfile.TemporaryDirectory() as folder, s3_servers.running(s3_servers.minio(Path(folder), binary)) as server:
        yield f"s3://{server.bucket()}/bench", server.environment


def epoch_of_fit(threads: int) -> float:
    """E, the unit of some figures: seconds of one epoch of Keras' `fit` of the lecture's network on MNIST's shapes."""
    command = [sys.executable, "-c", f"import common; print(common.fit_seconds({threads}))"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=7200, check=True)
    seconds = float(done.stdout.split()[-1])
    print(f"E, one epoch of fit: {seconds:.1f} s on {threads} threads", flush=True)
    return seconds


def fit_seconds(threads: int) -> float:
    """Seconds of the fastest of three epochs of `fit`, after a few steps that compile.

    A system may put the two threads, which wait for each other, on one core: an epoch then takes twice as long, and the next may not.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    from jobs.models.registry import build_model
    from service.specs.train import TrainSpec

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    generator = np.random.default_rng(0)
    images = generator.random((60_000, 28, 28, 1), np.float32)
    labels = generator.integers(0, 10, len(images))
    spec = TrainSpec.model_validate({"model": "cnn", "model_params": {"dropout": 0.25}, "dataset": "mnist", "epochs": 1})
    model = build_model(spec, (28, 28, 1), 10, None)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(images[:1280], labels[:1280], batch_size=128, verbose=0)
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        model.fit(images, labels, batch_size=128, epochs=1, verbose=0)
        taken.append(time.perf_counter() - began)
    return min(taken)


def training_seconds(run: Any) -> float:
    """From the beginning of the first step, its compilation included, to the last row of metrics."""
    began = min(row["time"] for row in run["events"] if row["event"] == "training")
    return float(run["history"][-1]["time"] - began)


def span(rows: Sequence[Any]) -> float:
    """Seconds from the first start of runs to the last one's end."""
    return float(max(row["finished"] for row in rows) - min(row["started"] for row in rows))


def examples_per_second(run: Any, skip_rows: int = 1) -> float:
    """The median rate of a run's rows of metrics, less the first ones, which compile."""
    rates = [row["examples_per_second"] for row in run["history"][skip_rows:] if row.get("examples_per_second")]
    return statistics.median(rates)


def table(rows: Sequence[Sequence[object]]) -> None:
    """Print rows as a Markdown table; the first is the heading."""
    head, *body = rows
    print("| " + " | ".join(map(str, head)) + " |\n|" + "---|" * len(head))
    for row in body:
        print("| " + " | ".join(map(str, row)) + " |")
