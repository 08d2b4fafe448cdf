"""Ray Data on a local cluster whose only CPU is taken, as it is while a worker trains."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# In a process of its own: Ray reads its settings when it is imported.
SCRIPT = """
import functools, json, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from support.datasets_in_a_store import flip_a_byte, make_dataset
from jobs.datasets.load import load_arrays
from jobs.worker_groups.ray_cluster import OBJECT_STORE_BYTES
from jobs.worker_groups.ray_train import WorkerGroup
from service.errors import Damaged
from service.settings import Settings
from service.specs.train import TrainSpec
from service.storage import open_store

FOLDER = Path(sys.argv[1])
PART, WIDTH, COUNT = 1000, 4096, 40


def spec(way):
    return TrainSpec.model_validate({"model": "dense", "dataset": "d", "epochs": 1, "input": way})


def part(number):
    values = np.full(PART * WIDTH, number, np.uint8)
    return [pa.table({"x": pa.FixedSizeBinaryArray.from_buffers(pa.binary(WIDTH), PART, [None, pa.py_buffer(values)])})]


store = open_store(Settings.load(store=str(FOLDER / "store")))
manifest = make_dataset(store, "d", [300, 200, 250])
group = WorkerGroup.of(Settings.load(store=str(FOLDER / "store")), spec("stream")).__enter__()
group.size()
import ray


@ray.remote(num_cpus=1)
class Worker:
    def ready(self):
        return True


worker = Worker.remote()
ray.get(worker.ready.remote(), timeout=120)
from jobs.datasets.ordered_reads import read_in_order

tables = read_in_order([functools.partial(part, number) for number in range(COUNT)], [PART] * COUNT, WIDTH)
order = [number for table in tables for number in (row.as_py()[0] for row in table.column("x"))]
found = {"larger_than_the_object_store": COUNT * PART * WIDTH / OBJECT_STORE_BYTES}
found["parts_in_order"] = order == [number for number in range(COUNT) for _ in range(PART)]

memory, stream = (load_arrays(spec(way), store, None, FOLDER / way, 10**8) for way in ("memory", "stream"))
rows = np.random.default_rng(0).permutation(750)
reader = stream.train.stream(iter([rows[:400], rows[400:]]))
taken = [reader.take(rows[first : first + 50]) for first in range(0, 750, 50)]
reader.close()
found["same_as_memory"] = all(
    np.concatenate([piece[name] for piece in taken]).tobytes() == array[rows].tobytes() for name, array in memory.train.items()
)
flip_a_byte(store, manifest.shards[1].key)
damaged = load_arrays(spec("stream"), store, None, FOLDER / "fresh", 10**8).train.stream(iter([rows]))
try:
    damaged.take(rows)
except Damaged as error:
    found["damaged"] = str(error)
print(json.dumps(found), flush=True)
group.__exit__()
"""


def test_ray_data_reads_in_order_without_a_cpu_and_says_what_is_damaged(tmp_path: Path) -> None:
    tests = Path(__file__).parents[2]
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("larger_than_the_object_store") > 1.9
    assert "shard" in found.pop("damaged")
    assert found == {"parts_in_order": True, "same_as_memory": True}
