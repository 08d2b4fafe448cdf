"""Start-up, step time, scaling and command line of this tree against another commit's, in turn, in one run.

usage: uv run python tests/benchmarks/against.py COMMIT [--rounds 10] [--only startup step_time scaling command_line]

The other commit is checked out beside this one, with an environment of its own whose bytecode is compiled, as this one's should be
(`uv sync --compile-bytecode`). Each side measures with its own benchmarks.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from command_line import make_runs
from common import heading, make_noise, median_ratio, minio_store, scratch_store

ROOT = Path(__file__).parents[2]
NAMES = ("startup", "step_time", "scaling", "command_line")
RUNS = 1000
STEP_TIME = """
import sys
sys.path.insert(0, "tests/benchmarks")
import numpy as np
import step_time
step_time.limit_threads(2)
generator = np.random.default_rng(0)
images = generator.integers(0, 256, (60_000, 28, 28, 1), dtype=np.uint8)
labels = generator.integers(0, 10, 60_000).astype(np.int32)
run = step_time.our_loop(128, images, labels)
run()
for line in sys.stdin:
    print(run(), flush=True)
"""
STARTUP = "import sys; sys.path.insert(0, 'tests/benchmarks'); import startup; print(startup.delayline_seconds(sys.argv[1], {}))"
SCALING = """
import sys
sys.path.insert(0, "tests/benchmarks")
from common import examples_per_second, train
keys = ["dataset=noise", "batch=128", "steps=120", "log_every=20", "evaluate.validation=0", "augment=[]", "worker.cpus=1"]
print(examples_per_second(train("cnn-mnist", sys.argv[1], *keys, workers=2), skip_rows=2))
"""
COMMAND = """
import os, sys
sys.path.insert(0, "tests/benchmarks")
import command_line
print(command_line.seconds([os.path.join(os.path.dirname(sys.executable), "delayline"), *sys.argv[1:]]))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("commit")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
    options = parser.parse_args()
    with other_tree(options.commit) as other:
        for name in options.only:
            globals()[name](other, options.rounds, (f"this tree ({name})", options.commit))


@contextlib.contextmanager
def other_tree(commit: str) -> Iterator[Path]:
    """A checkout of a commit with its environment, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="delayline-against-"), "tree")
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(folder), commit], cwd=ROOT, check=True)
    try:
        own = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        subprocess.run(["uv", "sync", "--quiet", "--compile-bytecode"], cwd=folder, env=own, check=True)
        for tree in (ROOT, folder):
            subprocess.run([python(tree), "-m", "compileall", "-q", "service", "jobs"], cwd=tree, check=True)
        yield folder
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(folder)], cwd=ROOT, check=True)


def python(tree: Path) -> str:
    return str(tree / ".venv" / "bin" / "python")


def measured(tree: Path, script: str, *arguments: str, environment: dict[str, str] | None = None) -> float:
    """The number that a script prints in a process of that tree."""
    done = subprocess.run(
        [python(tree), "-c", script, *arguments],
        cwd=tree,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{tree}: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def startup(other: Path, rounds: int, names: tuple[str, str]) -> None:
    """Seconds from the command to the end of the first training step, two workers."""
    heading("seconds from the command to the first training step, 2 workers, data cached")
    both(other, rounds, "s", names, STARTUP, make_store(5_000))


def scaling(other: Path, rounds: int, names: tuple[str, str]) -> None:
    """Examples a second of two workers of one thread."""
    heading("examples a second, cnn-mnist, global batch 128, 2 workers of 1 thread")
    both(other, rounds, "examples/s", names, SCALING, make_store(20_000))


def make_store(examples: int) -> str:
    store = scratch_store()
    make_noise(store, examples)
    return store


def both(other: Path, rounds: int, unit: str, names: tuple[str, str], script: str, store: str) -> None:
    """Measure a script in both trees in turn, with a cache of data that the first, uncounted round fills."""
    cache = {"DELAYLINE_CACHE": tempfile.mkdtemp(prefix="delayline-benchmark-cache-")}
    sides: list[Callable[[], float]] = [
        lambda: measured(ROOT, script, store, environment=cache),
        lambda: measured(other, script, store, environment=cache),
    ]
    for side in sides:
        side()
    median_ratio(sides[0], sides[1], rounds, unit, names)


def step_time(other: Path, rounds: int, names: tuple[str, str]) -> None:
    """Seconds of 40 steps in one process of each tree, which both stay for the whole run."""
    heading("seconds for 40 steps of the lecture's MNIST CNN, batch 128, 2 threads")
    with loop(ROOT) as ours, loop(other) as theirs:
        ours()
        theirs()
        median_ratio(ours, theirs, rounds, "s", names)


@contextlib.contextmanager
def loop(tree: Path) -> Iterator[Callable[[], float]]:
    """A process of a tree that holds the compiled step and runs it when asked."""
    command = [python(tree), "-c", STEP_TIME]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, cwd=tree, **pipes) as process:  # type: ignore[call-overload]

        def ask() -> float:
            process.stdin.write("\n")
            process.stdin.flush()
            return float(process.stdout.readline())

        yield ask
        process.stdin.close()


def command_line(other: Path, rounds: int, names: tuple[str, str]) -> None:
    """Seconds of `delayline --help` and of `delayline runs list` with 1,000 runs on MinIO."""
    heading("seconds of delayline --help")
    sides = [lambda: measured(ROOT, COMMAND, "--help"), lambda: measured(other, COMMAND, "--help")]
    median_ratio(sides[0], sides[1], rounds, "s", names)
    with minio_store() as (store, environment):
        make_runs(store, environment, RUNS)
        heading(f"seconds of delayline runs list, {RUNS} runs on MinIO")
        listing = ("runs", "list", "--store", store)
        sides = [
            lambda: measured(ROOT, COMMAND, *listing, environment=environment),
            lambda: measured(other, COMMAND, *listing, environment=environment),
        ]
        median_ratio(sides[0], sides[1], rounds, "s", names)


if __name__ == "__main__":
    sys.exit(main())
